-- tables: nexmark
CREATE TABLE results (a BIGINT,p BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0;
