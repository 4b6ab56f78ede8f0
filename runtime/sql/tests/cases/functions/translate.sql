-- compare: changelog
SELECT
  TRANSLATE(s, 'lo', '01'),
  TRANSLATE(s, 'lo', '0'),
  TRANSLATE(s, 'ä😀', 'ae'),
  TRANSLATE(s, '', 'x'),
  TRANSLATE(s, 'll', 'ab')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
