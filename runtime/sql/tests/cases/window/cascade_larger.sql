CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE VIEW small AS SELECT window_time AS rt, auction, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY auction, window_start, window_end, window_time;
CREATE TABLE results (
  s TIMESTAMP(3), e TIMESTAMP(3), n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT window_start, window_end, SUM(n) FROM TABLE(TUMBLE(TABLE small, DESCRIPTOR(rt), INTERVAL '20' SECOND)) GROUP BY window_start, window_end;
