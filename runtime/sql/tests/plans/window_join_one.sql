-- tables: changes
CREATE TABLE results (k STRING) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT a.k FROM (SELECT * FROM TABLE(TUMBLE(TABLE logs, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) a JOIN (SELECT * FROM TABLE(TUMBLE(TABLE logs, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) b ON a.window_start = b.window_start AND a.k = b.k;
