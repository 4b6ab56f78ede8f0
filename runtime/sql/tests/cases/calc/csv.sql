-- compare: changelog
CREATE TABLE plain (
  a INT, b STRING, c DOUBLE, d DATE
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/plain.csv',
  'format' = 'csv',
  'csv.null-literal' = ''
);
CREATE TABLE results (
  a INT, b STRING, c DOUBLE, d DATE
) WITH ('connector' = 'print');
INSERT INTO results
SELECT * FROM plain;
