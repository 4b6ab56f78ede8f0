-- compare: changelog
SELECT
  ASCII(s),
  CHR(97),
  CHR(353),
  CHR(-1),
  CHR(CHAR_LENGTH(s) + 64),
  LEFT(s, 2),
  RIGHT(s, 2),
  LEFT(s, -1),
  RIGHT(s, 0)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
