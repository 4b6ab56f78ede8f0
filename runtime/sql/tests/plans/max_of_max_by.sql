-- tables: changes
CREATE TABLE results (k STRING, m INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, MAX(n) FROM (SELECT k, v, MAX(v) n FROM logs GROUP BY k, v) GROUP BY k;
