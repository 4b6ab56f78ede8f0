CREATE TABLE t (a INT) WITH ('connector' = 'nothing');
SELECT * FROM t;
