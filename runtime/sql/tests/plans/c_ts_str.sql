-- tables: changes
CREATE TABLE results (v STRING,n BIGINT, PRIMARY KEY (v) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT CAST(ts AS STRING), n FROM (SELECT ts, COUNT(*) n FROM logs GROUP BY ts);
