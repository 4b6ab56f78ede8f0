-- tables: changes
CREATE TABLE results (i BIGINT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT id FROM cdc WHERE amount > 3;
