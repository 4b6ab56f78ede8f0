-- compare: changelog
SELECT
  LPAD(s, 0, 'x'),
  LPAD(s, -1, 'x'),
  RPAD(s, 3, ''),
  RPAD(s, 9, 'äö'),
  LPAD(s, 12, 'abc'),
  RPAD(s, 0, 'x')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
