-- tables: changes
CREATE TABLE results (n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT COUNT(*) FROM items;
