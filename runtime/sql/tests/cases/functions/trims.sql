-- compare: changelog
SELECT
  LTRIM(s),
  RTRIM(s),
  BTRIM(s),
  LTRIM(s, 'H '),
  RTRIM(s, 'dc '),
  BTRIM(s, 'Hda '),
  TRIM(LEADING 'a' FROM s),
  TRIM(TRAILING 'c' FROM s),
  TRIM(BOTH FROM s)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
