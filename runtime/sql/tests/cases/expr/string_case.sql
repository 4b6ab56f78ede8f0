-- compare: changelog
SELECT
  UPPER(s),
  LOWER(s),
  INITCAP(s),
  CHAR_LENGTH(s),
  REVERSE(s),
  ASCII(s)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
