CREATE TABLE orders (
  id BIGINT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE results (
  a BIGINT, b BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT a.id, b.id FROM orders a JOIN orders b ON a.customer IS NOT DISTINCT FROM b.customer AND a.id = b.id;
