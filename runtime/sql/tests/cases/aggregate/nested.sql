CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  m BIGINT, c BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT m, COUNT(*) FROM (SELECT auction, MAX(price) AS m FROM bids GROUP BY auction) GROUP BY m;
