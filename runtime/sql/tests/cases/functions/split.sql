-- compare: changelog
SELECT
  SPLIT(s, ','),
  SPLIT(s, 'l'),
  SPLIT('abc', ''),
  SPLIT_INDEX(s, ',', 1),
  SPLIT_INDEX(s, 'o', 0),
  SPLIT_INDEX(s, ',', 9),
  SPLIT_INDEX(s, ',', -1)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
