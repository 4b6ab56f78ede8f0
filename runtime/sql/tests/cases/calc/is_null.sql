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
  id BIGINT, c BOOLEAN, d BOOLEAN
) WITH ('connector' = 'print');
INSERT INTO results
SELECT id, customer IS NULL, paid IS NOT TRUE FROM orders WHERE qty IS NULL OR customer IS NULL;
