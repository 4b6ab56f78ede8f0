-- compare: changelog
SELECT
  s LIKE '',
  s LIKE '%',
  s LIKE '_%',
  s LIKE 'a_b%',
  s NOT LIKE 'H%d',
  s LIKE 'H!%' ESCAPE '!',
  s LIKE '%o%o%',
  s LIKE '______'
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
