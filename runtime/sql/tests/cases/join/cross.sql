CREATE TABLE results (
  a INT, b STRING
) WITH ('connector' = 'print');
INSERT INTO results
SELECT a, b FROM (VALUES (1), (2)) AS t(a) CROSS JOIN (VALUES ('x'), ('y')) AS u(b);
