-- compare: changelog
CREATE TABLE results (
  a INT, b STRING, c DECIMAL(5, 2)
) WITH ('connector' = 'print');
INSERT INTO results VALUES (1, 'a', 1.5), (2, 'b', 22.25);
