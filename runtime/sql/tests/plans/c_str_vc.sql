-- tables: changes
CREATE TABLE results (v VARCHAR(10),n BIGINT, PRIMARY KEY (v) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT CAST(k AS VARCHAR(10)), n FROM (SELECT k, COUNT(*) n FROM logs GROUP BY k);
