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
  price BIGINT, a DOUBLE, b DOUBLE
) WITH ('connector' = 'print');
INSERT INTO results
SELECT price, PERCENT_RANK() OVER (PARTITION BY auction ORDER BY price), CUME_DIST() OVER (PARTITION BY auction ORDER BY price) FROM bids;
