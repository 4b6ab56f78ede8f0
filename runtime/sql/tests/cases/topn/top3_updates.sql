CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  b INT, s BIGINT, r BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT bidder, s, rn FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY s DESC, bidder) AS rn FROM (SELECT bidder, SUM(price) AS s FROM bids GROUP BY bidder)) WHERE rn <= 3;
