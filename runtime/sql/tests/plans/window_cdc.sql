-- tables: changes
CREATE TABLE results (s TIMESTAMP(3),n BIGINT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE versions, DESCRIPTOR(vts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
