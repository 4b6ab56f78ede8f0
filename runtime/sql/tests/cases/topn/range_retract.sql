CREATE TABLE stock (
  item INT, shop STRING, amount INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  s STRING, i INT, m INT, r BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT shop, item, amount, rn FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY shop ORDER BY amount DESC, item) AS rn FROM stock) WHERE rn BETWEEN 2 AND 4;
