-- tables: nexmark
CREATE TABLE results (a BIGINT,b BIGINT,p BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, bidder, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY `dateTime` DESC) AS rank_number FROM bid) WHERE rank_number <= 1;
