-- compare: changelog
SELECT
  SUBSTRING(s, 2),
  SUBSTRING(s, 2, 3),
  SUBSTRING(s FROM -3),
  SUBSTRING(s, 0, 2),
  LEFT(s, 3),
  RIGHT(s, 3),
  LEFT(s, -1)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
