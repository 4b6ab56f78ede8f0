-- tables: changes
CREATE TABLE results (i BIGINT,c STRING, PRIMARY KEY (i) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'key.format' = 'json', 'value.format' = 'json');
INSERT INTO results
SELECT i.id, s.city FROM items i JOIN shops s ON i.shop = s.sid;
