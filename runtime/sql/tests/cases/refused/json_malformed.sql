CREATE TABLE plain (
  a INT, b STRING, c DOUBLE, d DATE
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/plain.csv',
  'format' = 'json',
  'csv.null-literal' = ''
);
CREATE TABLE results (
  a INT
) WITH ('connector' = 'print');
INSERT INTO results SELECT a FROM plain;
