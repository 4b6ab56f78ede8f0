CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  s TIMESTAMP(3), e TIMESTAMP(3), c BIGINT, m BIGINT, d BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT window_start, window_end, SUM(price), MIN(price), COUNT(DISTINCT bidder) FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '4' SECOND, INTERVAL '8' SECOND)) GROUP BY window_start, window_end;
