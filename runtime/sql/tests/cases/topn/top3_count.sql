CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  c STRING, a INT, n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT channel, auction, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY channel ORDER BY n DESC, auction) AS rn FROM (SELECT channel, auction, COUNT(*) AS n FROM bids GROUP BY channel, auction)) WHERE rn <= 3;
