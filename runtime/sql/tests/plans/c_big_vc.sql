-- tables: changes
CREATE TABLE results (v VARCHAR(10),n BIGINT, PRIMARY KEY (v) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT CAST(w AS VARCHAR(10)), n FROM (SELECT w, COUNT(*) n FROM logs GROUP BY w);
