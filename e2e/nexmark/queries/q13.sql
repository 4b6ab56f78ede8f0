-- Bids with what another table says of them: a versioned table here, as Flink 2.3 refuses the reference's own form.
CREATE VIEW side_input AS
SELECT `key`, `value`, `dateTime` FROM (
  SELECT MOD(id, 10000) AS `key`, itemName AS `value`, `dateTime`,
    ROW_NUMBER() OVER (PARTITION BY MOD(id, 10000) ORDER BY `dateTime` DESC) AS rownum
  FROM auction
) WHERE rownum = 1;

CREATE TABLE q13 (
  auction BIGINT,
  bidder BIGINT,
  price BIGINT,
  `dateTime` TIMESTAMP(3),
  `value` VARCHAR
) WITH (${sink});

INSERT INTO q13
SELECT B.auction, B.bidder, B.price, B.`dateTime`, S.`value`
FROM bid AS B
JOIN side_input FOR SYSTEM_TIME AS OF B.`dateTime` AS S ON MOD(B.auction, 10000) = S.`key`;
