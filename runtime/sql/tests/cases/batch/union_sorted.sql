SET 'execution.runtime-mode' = 'batch';
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
SELECT auction AS k, COUNT(*) AS n FROM bids GROUP BY auction UNION ALL SELECT bidder, COUNT(*) FROM bids GROUP BY bidder ORDER BY k, n;
