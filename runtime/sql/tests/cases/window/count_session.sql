CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  s TIMESTAMP(3), e TIMESTAMP(3), a INT, c BIGINT, m BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT window_start, window_end, auction, COUNT(*), MAX(price) FROM TABLE(SESSION(TABLE bids PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '6' SECOND)) GROUP BY auction, window_start, window_end;
