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
  r ROW<a BIGINT, b STRING>, a ARRAY<INT>, m MAP<STRING, BIGINT>
) WITH ('connector' = 'print');
INSERT INTO results
SELECT ROW(id, product), ARRAY[qty, 1], MAP['id', id] FROM orders WHERE id < 1005;
