-- tables: changes
CREATE TABLE results (k STRING,n BIGINT,m INT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT a.k, a.n, b.m FROM (SELECT k, COUNT(*) n FROM logs GROUP BY k) a LEFT JOIN (SELECT k, MAX(v) m FROM logs GROUP BY k) b ON a.k = b.k;
