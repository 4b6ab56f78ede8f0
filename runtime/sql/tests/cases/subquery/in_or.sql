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
  o BIGINT, c STRING
) WITH ('connector' = 'print');
INSERT INTO results
SELECT id, customer FROM orders WHERE customer = 'ann' OR id IN (SELECT order_id FROM payments WHERE `method` = 'card');
