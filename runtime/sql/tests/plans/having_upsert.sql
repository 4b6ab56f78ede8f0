-- tables: changes
CREATE TABLE results (k STRING,n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT k, COUNT(*) n FROM logs GROUP BY k HAVING COUNT(*) > 3;
