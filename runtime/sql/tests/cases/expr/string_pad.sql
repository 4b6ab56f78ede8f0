-- compare: changelog
SELECT
  LPAD(s, 8, '*'),
  RPAD(s, 8, '*-'),
  LPAD(s, 2, 'x'),
  REPEAT(s, 2),
  REPEAT(s, 0)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
