-- tables: changes
CREATE TABLE results (m INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT MIN(n) FROM (SELECT k, MIN(v) n FROM logs GROUP BY k);
