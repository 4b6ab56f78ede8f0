-- tables: changes
CREATE TABLE results (n BIGINT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT COUNT(*) FROM TABLE(SESSION(TABLE logs, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
