-- tables: changes
CREATE TABLE results (k STRING) WITH ('connector' = 'print');
INSERT INTO results
SELECT k FROM logs WHERE w = (SELECT MAX(amount) FROM items);
