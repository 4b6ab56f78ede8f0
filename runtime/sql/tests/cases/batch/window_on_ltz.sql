SET 'execution.runtime-mode' = 'batch';
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3), lt AS CAST(ts AS TIMESTAMP_LTZ(3)),
  WATERMARK FOR lt AS lt - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  auction INT, ws TIMESTAMP(3), wt TIMESTAMP_LTZ(3), n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, window_start, window_time, COUNT(*) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(lt), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end, window_time;
