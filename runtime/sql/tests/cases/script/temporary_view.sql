-- compare: changelog
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TEMPORARY VIEW v(a, b) AS SELECT auction, price FROM bids;
CREATE TABLE results (
  p BIGINT
) WITH ('connector' = 'print');
INSERT INTO results SELECT b FROM v WHERE a = 3;
