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
  channel STRING, n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
WITH c AS (SELECT channel, auction, MAX(price) AS p FROM bids GROUP BY channel, auction) SELECT channel, COUNT(*) FROM c WHERE p > 150 GROUP BY channel;
