-- tables: nexmark
CREATE TABLE results (a BIGINT,n BIGINT,mn BIGINT,mx BIGINT,av BIGINT,s BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, count(*), min(price), max(price), avg(price), sum(price) FROM bid GROUP BY auction;
