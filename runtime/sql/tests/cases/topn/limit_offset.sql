CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  p BIGINT, b INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT price, bidder FROM bids ORDER BY price DESC, bidder, ts LIMIT 5 OFFSET 3;
