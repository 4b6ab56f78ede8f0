-- compare: changelog
SELECT
  SPLIT_INDEX(s, ',', 0),
  SPLIT_INDEX(s, ',', 2),
  SPLIT_INDEX(s, ',', 9),
  SPLIT(s, ','),
  TRANSLATE(s, 'lo', '01')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
