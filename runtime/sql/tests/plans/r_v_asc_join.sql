-- tables: changes
CREATE TABLE results (k STRING,v INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v ASC) r FROM (SELECT a.k, b.v FROM logs a JOIN logs b ON a.k = b.k)) WHERE r <= 1;
