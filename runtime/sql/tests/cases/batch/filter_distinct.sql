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
  auction INT, a BIGINT, b BIGINT, c BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, COUNT(DISTINCT channel), SUM(DISTINCT price) FILTER (WHERE channel = 'web'), COUNT(*) FILTER (WHERE price > 100) FROM bids GROUP BY auction;
