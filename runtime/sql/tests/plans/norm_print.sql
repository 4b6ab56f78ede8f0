-- tables: changes
CREATE TABLE results (i BIGINT,s INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT id, shop FROM items;
