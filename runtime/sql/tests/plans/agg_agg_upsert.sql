-- tables: changes
CREATE TABLE results (n BIGINT,m BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT n, COUNT(*) FROM (SELECT k, COUNT(*) AS n FROM logs GROUP BY k) GROUP BY n;
