-- compare: changelog
SELECT
  JSON_QUOTE(s),
  JSON_UNQUOTE(s),
  JSON_UNQUOTE('"\u0041"'),
  JSON_QUOTE('a"b\c'),
  JSON_STRING(s)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
