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
  auction INT, price BIGINT, r BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, price, r FROM (SELECT *, DENSE_RANK() OVER (PARTITION BY channel ORDER BY price) AS r FROM bids) WHERE r = 2;
