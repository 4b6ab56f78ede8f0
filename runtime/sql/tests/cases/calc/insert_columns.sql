-- compare: changelog
CREATE TABLE results (
  a INT, b STRING, c DOUBLE
) WITH ('connector' = 'print');
INSERT INTO results (c, a) SELECT 1.5, 2;
