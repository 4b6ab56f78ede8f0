-- tables: changes
CREATE TABLE results (k STRING,r INT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT l.k, v.rate FROM logs l LEFT JOIN versions FOR SYSTEM_TIME AS OF l.ts AS v ON l.k = v.cur;
