CREATE TABLE orders (
  id BIGINT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE payments (
  pay_id BIGINT, order_id BIGINT, paid_amount DECIMAL(10, 2), `method` STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/payments.json',
  'format' = 'json'
);
CREATE TABLE results (
  o BIGINT, p BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT o.id, p.pay_id FROM orders o JOIN payments p ON o.id = p.order_id AND o.amount > p.paid_amount;
