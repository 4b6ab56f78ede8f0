-- tables: changes
CREATE TABLE results (k STRING,v INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT a.k, b.v FROM logs a LEFT JOIN logs b ON a.k = b.k WHERE b.v IS NULL;
