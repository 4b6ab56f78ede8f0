-- tables: changes
CREATE TABLE results (k STRING,v INT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) r FROM logs) WHERE r = 1;
