-- tables: nexmark
CREATE TABLE results (a BIGINT,b BIGINT,p BIGINT,r BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, bidder, price, rank_number FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid) WHERE rank_number <= 10;
