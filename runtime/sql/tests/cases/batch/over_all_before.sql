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
  auction INT, ts TIMESTAMP(3), n BIGINT, hi BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, ts, COUNT(*) OVER w, MAX(price) OVER w FROM bids WINDOW w AS (PARTITION BY auction ORDER BY ts);
