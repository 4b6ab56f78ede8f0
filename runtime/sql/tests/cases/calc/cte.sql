-- compare: changelog
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  a INT, p BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
WITH x AS (SELECT auction a, price p FROM bids), y AS (SELECT * FROM x WHERE p > 50) SELECT a, p * 2 FROM y;
