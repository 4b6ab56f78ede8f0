-- tables: changes
CREATE TABLE results (k STRING,v INT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT a.k, b.v FROM logs a JOIN logs b ON a.k = b.k AND a.ts = b.ts;
