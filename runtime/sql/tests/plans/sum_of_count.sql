-- tables: changes
CREATE TABLE results (m BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT SUM(n) + MAX(n) + COUNT(n) FROM (SELECT k, COUNT(*) n FROM logs GROUP BY k);
