CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
SELECT SUM(price) OVER (PARTITION BY auction ORDER BY price DESC ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM bids;
