SET 'execution.runtime-mode' = 'batch';
CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE counts (auction INT, n BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'counts');
CREATE TABLE sums (channel STRING, s BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'sums');
EXECUTE STATEMENT SET
BEGIN
INSERT INTO counts SELECT auction, COUNT(*) FROM bids GROUP BY auction;
INSERT INTO sums SELECT channel, SUM(price) FROM bids GROUP BY channel;
END;
