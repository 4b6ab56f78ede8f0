-- tables: changes
CREATE TABLE results (k STRING,v INT,n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, v, COUNT(*) FROM TABLE(SESSION(TABLE logs PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, k, v;
