-- Bids of people on auctions of their own.
CREATE TABLE q23 (
  auction_id BIGINT,
  bid_price BIGINT,
  person_name VARCHAR,
  auction_item VARCHAR
) WITH (${sink});

INSERT INTO q23
SELECT A.id, B.price, P.name, A.itemName
FROM bid B
JOIN person P ON B.bidder = P.id
JOIN auction A ON A.seller = P.id;
