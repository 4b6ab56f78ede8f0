CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  a STRING, c BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT channel, COUNT(DISTINCT bidder) FROM bids GROUP BY channel, SESSION(ts, INTERVAL '6' SECOND);
