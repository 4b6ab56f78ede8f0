-- tables: changes
CREATE TABLE results (k STRING,n TIMESTAMP(3)) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT k, window_start FROM TABLE(SESSION(TABLE logs PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE v > 3;
