CREATE TABLE orders (
  id BIGINT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3)
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE results (
  c STRING, n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT customer, COUNT(*) FROM orders GROUP BY customer HAVING COUNT(*) > ALL (SELECT CAST(qty AS BIGINT) FROM orders WHERE qty < 5);
