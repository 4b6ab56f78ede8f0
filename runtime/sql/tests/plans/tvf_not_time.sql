-- tables: changes
CREATE TABLE results (s TIMESTAMP(3),n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT window_start, COUNT(*) FROM TABLE(TUMBLE((SELECT k, MAX(ts) AS ts FROM logs GROUP BY k), DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
