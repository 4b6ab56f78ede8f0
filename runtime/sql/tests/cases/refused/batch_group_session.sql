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
  auction INT, ws TIMESTAMP(3), n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, SESSION_START(ts, INTERVAL '2' SECOND), COUNT(*) FROM bids GROUP BY auction, SESSION(ts, INTERVAL '2' SECOND);
