-- compare: changelog
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE VIEW web AS SELECT auction, price FROM bids WHERE channel = 'web';
CREATE TABLE results (
  a INT, p BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, price FROM web WHERE price > 100;
