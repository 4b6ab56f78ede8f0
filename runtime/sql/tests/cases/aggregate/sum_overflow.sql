CREATE TABLE results (
  v INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT SUM(a) FROM (VALUES (2147483647), (1)) AS t(a);
