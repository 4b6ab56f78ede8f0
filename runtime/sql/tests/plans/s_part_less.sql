-- tables: changes
CREATE TABLE results (n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT COUNT(*) FROM TABLE(SESSION(TABLE logs PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
