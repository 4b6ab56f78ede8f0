-- tables: changes
CREATE TABLE results (k STRING,v INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER ( ORDER BY v DESC, k ASC) r FROM (SELECT k, SUM(v) v FROM logs GROUP BY k)) WHERE r <= 1;
