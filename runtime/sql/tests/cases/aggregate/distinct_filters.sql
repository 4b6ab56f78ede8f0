CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  c STRING, a BIGINT, b BIGINT, d BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT channel, COUNT(DISTINCT bidder), COUNT(DISTINCT bidder) FILTER (WHERE price < 100), COUNT(DISTINCT auction) FILTER (WHERE price >= 100) FROM bids GROUP BY channel;
