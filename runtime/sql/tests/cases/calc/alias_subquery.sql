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
  a BIGINT, b DOUBLE
) WITH ('connector' = 'print');
INSERT INTO results
SELECT x + 1, y FROM (SELECT id AS x, price * 2 AS y FROM orders) AS t WHERE y > 50;
