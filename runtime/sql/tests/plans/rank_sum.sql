-- tables: changes
CREATE TABLE results (k STRING,m INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, m FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY m DESC) r FROM (SELECT k, SUM(v) m FROM logs GROUP BY k)) WHERE r <= 5;
