CREATE TABLE stock (
  item INT, shop STRING, amount INT,
  PRIMARY KEY (item) NOT ENFORCED
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/stock.debezium.json',
  'format' = 'debezium-json'
);
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  i INT, s STRING, m INT, c BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT s.item, s.shop, s.amount, b.c FROM stock s JOIN (SELECT auction, COUNT(*) AS c FROM bids GROUP BY auction) b ON s.item = b.auction;
