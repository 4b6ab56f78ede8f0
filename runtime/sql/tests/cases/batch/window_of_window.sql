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
  we TIMESTAMP(3), n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT window_end, COUNT(*) FROM (SELECT auction, window_start, window_end, SUM(price) AS s FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '20' SECOND)) GROUP BY auction, window_start, window_end) WHERE s > 500 GROUP BY window_end;
