-- compare: changelog
SET 'table.exec.mini-batch.enabled' = 'false';
CREATE TABLE stock (
  item INT, shop STRING, amount INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  shop STRING, v INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT shop, MIN(amount) FROM stock GROUP BY shop;
