-- tables: changes
CREATE TABLE results (k STRING,n BIGINT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT k, COUNT(*) n FROM TABLE(SESSION(TABLE logs PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE v > 3 GROUP BY window_start, window_end, k;
