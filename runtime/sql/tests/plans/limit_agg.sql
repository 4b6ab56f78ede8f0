-- tables: changes
CREATE TABLE results (k STRING,n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, COUNT(*) FROM logs GROUP BY k LIMIT 3;
