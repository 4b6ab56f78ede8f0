-- tables: nexmark
CREATE TABLE results (a BIGINT,b BIGINT,i VARCHAR) WITH ('connector' = 'print');
INSERT INTO results
SELECT auction, bidder, itemName FROM bid AS B INNER JOIN auction AS A on B.auction = A.id WHERE A.category = 10;
