-- compare: changelog
SELECT
  s BETWEEN 'A' AND 'Z',
  s NOT BETWEEN 'A' AND 'Z',
  s BETWEEN SYMMETRIC 'z' AND 'a',
  s IN ('', 'a,b,,c'),
  s NOT IN ('', 'x'),
  s IN ('', CAST(NULL AS STRING)),
  s IS DISTINCT FROM '',
  s IS NOT DISTINCT FROM CAST(NULL AS STRING)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
