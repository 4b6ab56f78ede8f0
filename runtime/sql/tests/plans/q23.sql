-- tables: nexmark
CREATE TABLE results (a BIGINT,b BIGINT,i VARCHAR,n VARCHAR) WITH ('connector' = 'print');
INSERT INTO results
SELECT B.auction, B.bidder, A.itemName, P.name FROM bid B JOIN auction A ON B.auction = A.id JOIN person P ON P.id = B.bidder;
