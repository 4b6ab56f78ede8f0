CREATE TABLE stock (
  item INT, shop STRING, amount INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  v BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT COUNT(DISTINCT amount) FROM stock;
