-- tables: proctime
CREATE TABLE results (s BIGINT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT SUM(w) OVER (PARTITION BY k ORDER BY pt) FROM logs;
