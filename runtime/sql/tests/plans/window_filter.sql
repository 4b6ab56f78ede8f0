-- tables: changes
CREATE TABLE results (s TIMESTAMP(3),n BIGINT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT window_start, n FROM (SELECT window_start, window_end, COUNT(*) n FROM TABLE(TUMBLE(TABLE logs, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE v > 3 GROUP BY window_start, window_end) WHERE window_start > TIMESTAMP '2020-01-01 00:00:00';
