SET 'execution.runtime-mode' = 'batch';
CREATE TABLE stock (item INT, shop STRING, amount INT) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  item INT, n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT item, COUNT(*) FROM stock GROUP BY item;
