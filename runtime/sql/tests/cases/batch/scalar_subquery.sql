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
  id INT, amount DECIMAL(10, 2)
) WITH ('connector' = 'print');
INSERT INTO results
SELECT id, amount FROM orders WHERE amount > (SELECT AVG(amount) FROM orders);
