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
  n BIGINT, s BIGINT, c BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT COUNT(*), SUM(price), COUNT(DISTINCT channel) FROM bids WHERE price < 0;
