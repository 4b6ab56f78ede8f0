-- tables: changes
CREATE TABLE results (k STRING,v INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT DISTINCT k, v FROM logs;
