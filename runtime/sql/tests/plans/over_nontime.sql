-- tables: changes
CREATE TABLE results (s BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT SUM(w) OVER (PARTITION BY k ORDER BY v) FROM logs;
