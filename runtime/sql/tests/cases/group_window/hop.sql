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
SELECT auction, COUNT(*), HOP_START(ts, INTERVAL '5' SECOND, INTERVAL '15' SECOND), HOP_END(ts, INTERVAL '5' SECOND, INTERVAL '15' SECOND) FROM bids GROUP BY auction, HOP(ts, INTERVAL '5' SECOND, INTERVAL '15' SECOND);
