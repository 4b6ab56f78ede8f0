-- compare: changelog
SELECT
  CONCAT(s, 'x', s),
  CONCAT_WS('-', s, 'y', CAST(NULL AS STRING), ''),
  CONCAT_WS(CAST(NULL AS STRING), s),
  s || s,
  '<' || s || '>',
  CONCAT_WS('', 'a', 'b')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
