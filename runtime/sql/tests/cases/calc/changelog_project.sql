-- compare: changelog
CREATE TABLE stock (
  item INT, shop STRING, amount INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  item INT, twice INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT item, amount * 2 FROM stock;
