CREATE TABLE stock (
  item INT, shop STRING, amount INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  shop STRING, v DOUBLE
) WITH ('connector' = 'print');
INSERT INTO results
SELECT shop, STDDEV_POP(CAST(amount AS DOUBLE)) FROM stock GROUP BY shop;
