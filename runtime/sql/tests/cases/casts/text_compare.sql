-- compare: changelog
SELECT
  s = 'Hello World',
  s < 'b',
  s >= '',
  s <> '  pad',
  CAST('a' AS CHAR(3)) = 'a'
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
