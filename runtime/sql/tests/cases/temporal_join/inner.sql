CREATE TABLE orders (
  id BIGINT, customer STRING, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, paid BOOLEAN, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/orders.json',
  'format' = 'json'
);
CREATE TABLE rates (
  currency STRING, rate DECIMAL(10, 4), ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '30' SECOND,
  PRIMARY KEY (currency) NOT ENFORCED
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/rates.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  o BIGINT, c STRING, r DECIMAL(10, 4)
) WITH ('connector' = 'print');
INSERT INTO results
SELECT o.id, r.currency, r.rate FROM (SELECT id, ts, CASE WHEN qty = 1 THEN 'EUR' WHEN qty = 2 THEN 'USD' WHEN qty = 3 THEN 'GBP' ELSE 'XXX' END AS cur FROM orders) o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.cur = r.currency;
