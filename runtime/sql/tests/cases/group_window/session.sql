CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  a INT, c BIGINT, s TIMESTAMP(3), e TIMESTAMP(3)
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, COUNT(*), SESSION_START(ts, INTERVAL '6' SECOND), SESSION_END(ts, INTERVAL '6' SECOND) FROM bids GROUP BY auction, SESSION(ts, INTERVAL '6' SECOND);
