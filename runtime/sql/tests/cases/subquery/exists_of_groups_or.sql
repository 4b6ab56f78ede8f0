CREATE TABLE orders (
  id BIGINT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3)
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE payments (
  pay_id BIGINT, order_id BIGINT, paid_amount DECIMAL(10, 2), `method` STRING, ts TIMESTAMP(3)
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/payments.json',
  'format' = 'json'
);
CREATE TABLE results (
  o BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT id FROM orders o WHERE qty > 8 OR EXISTS (SELECT order_id FROM payments p WHERE p.order_id = o.id GROUP BY order_id HAVING COUNT(*) > 1);
