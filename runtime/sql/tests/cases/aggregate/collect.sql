CREATE TABLE orders (
  id BIGINT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE results (
  product STRING, customer STRING
) WITH ('connector' = 'print');
INSERT INTO results
SELECT product, name FROM (SELECT product, COLLECT(customer) AS customers FROM orders GROUP BY product) CROSS JOIN UNNEST(customers) AS t(name);
