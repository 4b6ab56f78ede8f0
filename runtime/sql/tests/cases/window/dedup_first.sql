CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  s TIMESTAMP(3), a INT, p BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT window_start, auction, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, auction ORDER BY ts ASC) AS rn FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE rn = 1;
