CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  c STRING, a BIGINT, b BIGINT, d BIGINT, e BIGINT, f BIGINT, g BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT channel, COUNT(*), SUM(price), MIN(price), MAX(price), AVG(price), COUNT(DISTINCT bidder) FROM bids GROUP BY channel;
