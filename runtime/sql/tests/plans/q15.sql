-- tables: nexmark
CREATE TABLE results (d STRING,n BIGINT,a BIGINT,b BIGINT,c BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT channel, count(*), count(*) filter (where price < 10000), count(distinct bidder), count(distinct auction) filter (where price >= 10000 and price < 1000000) FROM bid GROUP BY channel;
