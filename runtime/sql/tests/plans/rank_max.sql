-- tables: changes
CREATE TABLE results (k STRING,m INT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT k, m FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY m DESC) r FROM (SELECT k, MAX(v) m FROM logs GROUP BY k)) WHERE r <= 5;
