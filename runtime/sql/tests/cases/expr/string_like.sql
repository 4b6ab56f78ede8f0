-- compare: changelog
SELECT
  s LIKE 'H%',
  s LIKE '%o_W%',
  s NOT LIKE '%a%',
  s SIMILAR TO '(H|a).*',
  s LIKE 'a,b%' ESCAPE '!',
  STARTSWITH(s, 'He'),
  ENDSWITH(s, 'ld')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
