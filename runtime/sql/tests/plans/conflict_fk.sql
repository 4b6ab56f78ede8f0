-- tables: changes
CREATE TABLE results (s INT,a INT, PRIMARY KEY (s) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT shop, amount FROM cdc;
