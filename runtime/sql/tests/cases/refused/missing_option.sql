CREATE TABLE t (a INT) WITH ('connector' = 'filesystem');
SELECT * FROM t;
