-- tables: changes
CREATE TABLE results (k STRING,v INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, v FROM logs ORDER BY v LIMIT 1;
