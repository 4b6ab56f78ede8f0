-- tables: changes
CREATE TABLE results (s TIMESTAMP(3),n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT window_start, COUNT(*) n FROM TABLE(TUMBLE(TABLE logs, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start;
