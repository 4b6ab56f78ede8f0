CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  a INT, p BIGINT, s TIMESTAMP(3), e TIMESTAMP(3), t TIMESTAMP(3)
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, price, window_start, window_end, window_time FROM TABLE(TUMBLE(DATA => TABLE bids, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND));
