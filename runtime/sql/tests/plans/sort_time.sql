-- tables: changes
CREATE TABLE results (k STRING) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT k FROM logs ORDER BY ts, v;
