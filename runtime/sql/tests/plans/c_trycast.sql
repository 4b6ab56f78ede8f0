-- tables: changes
CREATE TABLE results (v BIGINT,n BIGINT, PRIMARY KEY (v) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT TRY_CAST(v AS BIGINT), n FROM (SELECT v, COUNT(*) n FROM logs GROUP BY v);
