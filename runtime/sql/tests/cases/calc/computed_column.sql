-- compare: changelog
CREATE TABLE t (a INT, b INT, c AS a + b, d AS UPPER('x' || CAST(a AS STRING))) WITH ('connector' = 'filesystem',
  'path' = '${input}/plain2.csv',
  'format' = 'csv');
CREATE TABLE results (
  a INT, c INT, d STRING
) WITH ('connector' = 'print');
INSERT INTO results
SELECT a, c, d FROM t;
