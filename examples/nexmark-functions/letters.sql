-- Of each auction's bids: in how many the letter is, and how often.
CREATE FUNCTION count_char AS 'com.github.nexmark.flink.udf.CountChar';

CREATE TABLE nexmark (
  event_type INT,
  bid ROW<auction BIGINT, extra VARCHAR>
) WITH ('connector' = 'nexmark', 'events.num' = '5000', 'seed' = '1');

CREATE TABLE letters (auction BIGINT, bids BIGINT, letters BIGINT) WITH ('connector' = 'print');

INSERT INTO letters
SELECT bid.auction, COUNT(*), SUM(count_char(bid.extra, '${letter}'))
FROM nexmark
WHERE event_type = 2 AND count_char(bid.extra, '${letter}') > 0
GROUP BY bid.auction;
