CREATE TABLE results (
  a INT
) WITH ('connector' = 'print');
INSERT INTO results SELECT 1 / a FROM (VALUES (1), (0)) AS t(a);
