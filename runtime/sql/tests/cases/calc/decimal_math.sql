-- compare: changelog
CREATE TABLE orders (
  id BIGINT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE results (
  id BIGINT, a DECIMAL(38, 6), b DECIMAL(38, 6), c DECIMAL(38, 6)
) WITH ('connector' = 'print');
INSERT INTO results
SELECT id, amount * 1.19, amount / 3, amount + qty FROM orders;
