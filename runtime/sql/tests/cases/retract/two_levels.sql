CREATE TABLE stock (
  item INT, shop STRING, amount INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  n BIGINT, shops BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT n, COUNT(*) FROM (SELECT shop, COUNT(*) AS n FROM stock GROUP BY shop) GROUP BY n;
