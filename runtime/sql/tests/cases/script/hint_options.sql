-- compare: changelog
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/none.json',
  'format' = 'json'
);
CREATE TABLE results (
  p BIGINT
) WITH ('connector' = 'print');
INSERT INTO results SELECT price FROM bids /*+ OPTIONS('path' = '${input}/bids.json') */ WHERE price > 190;
