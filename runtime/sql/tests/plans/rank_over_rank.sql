-- tables: changes
CREATE TABLE results (k STRING,v INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, v FROM (SELECT k, v, ROW_NUMBER() OVER (ORDER BY v DESC) q FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) r FROM logs) WHERE r <= 3) WHERE q <= 2;
