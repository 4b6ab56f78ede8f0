-- compare: changelog
CREATE TABLE results (
  a INT, b STRING
) WITH ('connector' = 'print');
INSERT INTO results
VALUES (1, 'x'), (CAST(NULL AS INT), 'y');
