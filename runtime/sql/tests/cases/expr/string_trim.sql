-- compare: changelog
SELECT
  '[' || TRIM(s) || ']',
  '[' || LTRIM(s) || ']',
  '[' || RTRIM(s) || ']',
  '[' || BTRIM(s) || ']',
  TRIM(LEADING 'H' FROM s),
  TRIM(TRAILING 'd' FROM s),
  TRIM(BOTH 'x' FROM s)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
