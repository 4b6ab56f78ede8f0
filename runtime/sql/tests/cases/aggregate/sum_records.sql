-- compare: changelog
SET 'table.exec.mini-batch.enabled' = 'false';
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  auction INT, v BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, SUM(price) FROM bids GROUP BY auction;
