-- compare: changelog
SELECT
  CHAR_LENGTH(s),
  CHARACTER_LENGTH(s),
  REVERSE(s),
  INITCAP(s),
  UPPER(s),
  LOWER(s),
  REPEAT(s, -1)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
