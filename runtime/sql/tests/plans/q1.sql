-- tables: nexmark
CREATE TABLE results (a BIGINT,b BIGINT,p DECIMAL(23,3),d TIMESTAMP(3),e VARCHAR) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, bidder, 0.908 * price as price, `dateTime`, extra FROM bid;
