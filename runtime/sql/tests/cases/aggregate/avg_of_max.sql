CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  channel STRING, a BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT channel, AVG(m) FROM (SELECT channel, auction, MAX(price) AS m FROM bids GROUP BY channel, auction) GROUP BY channel;
