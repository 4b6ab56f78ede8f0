-- tables: changes
CREATE VIEW newest AS SELECT k, v, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) r FROM logs) WHERE r = 1;
CREATE TABLE results (k STRING,r INT) WITH ('connector' = 'kafka', 'topic' = 'o', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO results
SELECT l.k, x.v FROM logs l JOIN newest FOR SYSTEM_TIME AS OF l.ts AS x ON l.k = x.k;
