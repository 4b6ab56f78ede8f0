-- tables: changes
CREATE TABLE results (i BIGINT,s INT, PRIMARY KEY (i) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT id, shop FROM items UNION ALL SELECT id, shop FROM cdc;
