CREATE TABLE results (
  a INT, b INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT a, b FROM (VALUES (1), (5), (9)) AS t(a) JOIN (VALUES (2), (6)) AS u(b) ON a < b;
