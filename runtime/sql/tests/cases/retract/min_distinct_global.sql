CREATE TABLE stock (
  item INT, shop STRING, amount INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  v INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT MIN(DISTINCT amount) FROM stock;
