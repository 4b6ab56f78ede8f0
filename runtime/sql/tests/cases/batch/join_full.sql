SET 'execution.runtime-mode' = 'batch';
CREATE TABLE orders (
  id INT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE payments (
  pay_id INT, order_id INT, paid_amount DECIMAL(10, 2), `method` STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/payments.json',
  'format' = 'json'
);
CREATE TABLE results (
  id INT, customer STRING, pay_id INT, paid DECIMAL(10, 2)
) WITH ('connector' = 'print');
INSERT INTO results
SELECT o.id, o.customer, p.pay_id, p.paid_amount FROM orders AS o FULL JOIN payments AS p ON o.id = p.order_id AND p.paid_amount > o.amount;
