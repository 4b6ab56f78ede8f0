-- compare: changelog
SET 'table.exec.mini-batch.enabled' = 'false';
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE results (
  a INT, t TIMESTAMP(3)
) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY ts ASC) AS rn FROM bids) WHERE rn = 1;
