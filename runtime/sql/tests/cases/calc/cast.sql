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
  a STRING, b INT, c DECIMAL(6, 1), d DATE, e BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT CAST(ts AS STRING), CAST(price AS INT), CAST(amount AS DECIMAL(6, 1)), CAST(ts AS DATE), CAST(paid AS BIGINT) FROM orders;
