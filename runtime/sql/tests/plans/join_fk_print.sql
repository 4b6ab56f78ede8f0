-- tables: changes
CREATE TABLE results (i BIGINT,c STRING) WITH ('connector' = 'print');
INSERT INTO results
SELECT i.id, s.city FROM items i JOIN shops s ON i.shop = s.sid;
