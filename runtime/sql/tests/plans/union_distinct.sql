-- tables: changes
CREATE TABLE results (k STRING) WITH ('connector' = 'print');
INSERT INTO results
SELECT k FROM logs UNION SELECT CAST(v AS STRING) FROM logs;
