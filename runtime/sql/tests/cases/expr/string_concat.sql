-- compare: changelog
SELECT
  CONCAT(s, '-', s),
  CONCAT_WS('-', s, 'x', CAST(NULL AS STRING)),
  s || 'x',
  COALESCE(s, 'none'),
  NULLIF(s, ''),
  IFNULL(s, 'nil'),
  IF(s = '', 1, 2)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
