-- tables: changes
CREATE TABLE results (v DECIMAL(12,0),n BIGINT, PRIMARY KEY (v) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT CAST(v AS DECIMAL(12,0)), n FROM (SELECT v, COUNT(*) n FROM logs GROUP BY v);
