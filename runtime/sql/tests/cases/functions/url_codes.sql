-- compare: changelog
SELECT
  URL_ENCODE(s),
  URL_DECODE(URL_ENCODE(s)),
  URL_DECODE('%zz'),
  URL_DECODE('a+b%20c')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
