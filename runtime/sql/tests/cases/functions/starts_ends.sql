-- compare: changelog
SELECT
  STARTSWITH(s, ''),
  ENDSWITH(s, ''),
  STARTSWITH(s, 'a'),
  ENDSWITH(s, 'c'),
  ENDSWITH(s, s)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
