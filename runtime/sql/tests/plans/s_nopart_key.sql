-- tables: changes
CREATE TABLE results (k STRING,n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, COUNT(*) FROM TABLE(SESSION(TABLE logs, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, k;
