-- tables: changes
CREATE TABLE results (k STRING,n BIGINT,r BIGINT, PRIMARY KEY (r) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT k, n, r FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY n DESC) r FROM (SELECT k, COUNT(*) n FROM logs GROUP BY k)) WHERE r <= 5;
