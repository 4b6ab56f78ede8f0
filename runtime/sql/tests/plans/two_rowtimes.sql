-- tables: changes
CREATE TABLE results (a TIMESTAMP(3),b TIMESTAMP(3)) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT a.ts, b.ts FROM logs a JOIN logs b ON a.k = b.k AND a.ts BETWEEN b.ts AND b.ts + INTERVAL '1' HOUR;
