SET 'execution.runtime-mode' = 'batch';
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  a INT, n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT a.auction, COUNT(*) FROM bids a JOIN bids b ON a.auction = b.auction AND a.price < b.price GROUP BY a.auction;
