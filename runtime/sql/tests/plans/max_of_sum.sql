-- tables: changes
CREATE TABLE results (m BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT MAX(n) FROM (SELECT k, SUM(w) n FROM logs GROUP BY k);
