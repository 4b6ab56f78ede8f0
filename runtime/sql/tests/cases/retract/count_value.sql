CREATE TABLE stock (
  item INT, shop STRING, amount INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  shop STRING, v BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT shop, COUNT(amount) FROM stock GROUP BY shop;
