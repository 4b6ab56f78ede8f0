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
  ts TIMESTAMP(3), a BIGINT, b BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT ts, FIRST_VALUE(price) OVER (PARTITION BY auction ORDER BY ts), LAST_VALUE(price) OVER (PARTITION BY auction ORDER BY ts) FROM bids;
