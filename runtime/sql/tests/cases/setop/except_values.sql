CREATE TABLE results (
  a INT, b STRING
) WITH ('connector' = 'print');
INSERT INTO results
SELECT * FROM (VALUES (1, 'a'), (1, 'a'), (2, 'b'), (CAST(NULL AS INT), 'c')) EXCEPT SELECT * FROM (VALUES (1, 'a'), (3, 'c'), (CAST(NULL AS INT), 'c'));
