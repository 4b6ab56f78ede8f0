CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  a INT, b INT, p BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, bidder, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, bidder, ts) AS rn FROM bids) WHERE rn BETWEEN 2 AND 4;
