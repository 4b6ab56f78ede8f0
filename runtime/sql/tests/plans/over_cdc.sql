-- tables: changes
CREATE TABLE results (i BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT COUNT(*) OVER (PARTITION BY k ORDER BY ts) FROM (SELECT k, MAX(ts) ts FROM logs GROUP BY k);
