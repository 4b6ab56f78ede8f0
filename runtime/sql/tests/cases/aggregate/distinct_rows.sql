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
  p STRING, q INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT DISTINCT product, qty FROM orders;
