-- tables: changes
CREATE TABLE results (v STRING,n BIGINT, PRIMARY KEY (v) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT CAST(b AS STRING), n FROM (SELECT v * 1e0 b, COUNT(*) n FROM logs GROUP BY v * 1e0);
