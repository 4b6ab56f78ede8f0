SET 'execution.runtime-mode' = 'batch';
CREATE TABLE orders (
  id INT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE results (
  product STRING, q INT, aq INT, am DECIMAL(38, 2), aam DECIMAL(38, 6), p DOUBLE, hi DOUBLE, d BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT product, SUM(qty), AVG(qty), SUM(amount), AVG(amount), SUM(price), MAX(price), COUNT(DISTINCT customer) FROM orders GROUP BY product;
