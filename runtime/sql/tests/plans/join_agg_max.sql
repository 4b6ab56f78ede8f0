-- tables: changes
CREATE TABLE results (k STRING,n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT a.k, COUNT(*) FROM logs a JOIN logs b ON a.k = b.k GROUP BY a.k;
