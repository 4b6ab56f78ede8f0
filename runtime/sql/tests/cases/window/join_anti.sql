CREATE TABLE orders (
  id BIGINT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE payments (
  pay_id BIGINT, order_id BIGINT, paid_amount DECIMAL(10, 2), `method` STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/payments.json',
  'format' = 'json'
);
CREATE TABLE results (
  o BIGINT, s TIMESTAMP(3)
) WITH ('connector' = 'print');
INSERT INTO results
SELECT l.id, l.window_start FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '20' SECOND))) l WHERE NOT EXISTS (SELECT * FROM (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '20' SECOND))) r WHERE l.id = r.order_id AND l.window_start = r.window_start AND l.window_end = r.window_end);
