-- tables: changes
CREATE TABLE results (i BIGINT,a INT,b INT, PRIMARY KEY (i) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT i.id, i.amount, c.amount FROM items i LEFT JOIN cdc c ON i.id = c.id;
