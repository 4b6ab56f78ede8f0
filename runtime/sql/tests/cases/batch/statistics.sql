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
  auction INT, a DOUBLE, b DOUBLE
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, ROUND(STDDEV_POP(CAST(price AS DOUBLE)), 6), ROUND(VAR_SAMP(CAST(price AS DOUBLE)), 6) FROM bids GROUP BY auction;
