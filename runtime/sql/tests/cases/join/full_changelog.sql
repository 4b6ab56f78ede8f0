CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE stock (
  item INT, shop STRING, amount INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE results (
  a INT, p BIGINT, s STRING, m INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT b.auction, b.price, s.shop, s.amount FROM bids b FULL OUTER JOIN stock s ON b.auction = s.item;
