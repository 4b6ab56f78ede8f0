CREATE TABLE results (
  a INT
) WITH ('connector' = 'print');
INSERT INTO results SELECT CAST(b AS INT) FROM (VALUES ('1'), ('x')) AS t(b);
