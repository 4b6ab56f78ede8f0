-- tables: changes
CREATE TABLE results (k STRING,n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, COUNT(*) n FROM logs GROUP BY k ORDER BY n DESC LIMIT 3;
