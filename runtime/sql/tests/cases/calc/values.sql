-- compare: changelog
CREATE TABLE results (
  a INT, b STRING
) WITH ('connector' = 'print');
INSERT INTO results
SELECT a, b FROM (VALUES (1, 'x'), (2, 'y'), (3, CAST(NULL AS STRING))) AS t(a, b);
