-- tables: changes
CREATE TABLE results (s TIMESTAMP(3),n BIGINT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT window_start, COUNT(*) FROM TABLE(TUMBLE((SELECT a.k, a.ts FROM logs a JOIN logs b ON a.k = b.k AND a.ts BETWEEN b.ts AND b.ts + INTERVAL '1' HOUR), DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
