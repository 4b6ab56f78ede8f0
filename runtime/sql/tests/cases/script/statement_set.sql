CREATE TABLE bids (
  auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/bids.json',
  'format' = 'json'
);
CREATE TABLE a (x INT, n BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'a');
CREATE TABLE b (p BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'b');
EXECUTE STATEMENT SET BEGIN
INSERT INTO a SELECT auction, COUNT(*) FROM bids GROUP BY auction;
INSERT INTO b SELECT price FROM bids WHERE price > 190;
END;
