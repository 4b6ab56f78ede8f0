-- tables: changes
CREATE TABLE results (k STRING,n BIGINT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT k, n FROM (SELECT k, COUNT(*) n, window_start FROM TABLE(SESSION(TABLE logs PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, k) WHERE window_start > TIMESTAMP '2020-01-01 00:00:00';
