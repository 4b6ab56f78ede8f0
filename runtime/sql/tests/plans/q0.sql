-- tables: nexmark
CREATE TABLE results (a BIGINT,b BIGINT,p BIGINT,d TIMESTAMP(3),e VARCHAR) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, bidder, price, `dateTime`, extra FROM bid;
