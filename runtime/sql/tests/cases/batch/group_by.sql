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
  auction INT, n BIGINT, s BIGINT, a BIGINT, lo BIGINT, hi BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, COUNT(*), SUM(price), AVG(price), MIN(price), MAX(price) FROM bids GROUP BY auction;
