-- compare: changelog
SELECT
  CAST(s AS CHAR(3)),
  CAST(s AS CHAR(12)),
  CAST(s AS VARCHAR(2)),
  CAST(s AS BYTES),
  CAST(CAST(s AS BYTES) AS STRING),
  CAST(s AS BINARY(4)),
  CAST(s AS VARBINARY(3))
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
