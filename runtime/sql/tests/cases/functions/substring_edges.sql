-- compare: changelog
SELECT
  SUBSTRING(s, 0),
  SUBSTRING(s, 1, 0),
  SUBSTRING(s, -3),
  SUBSTRING(s, -3, 2),
  SUBSTRING(s FROM 2),
  SUBSTR(s, 2, 3),
  SUBSTR(s, 99),
  SUBSTRING(s, 3, 99)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
