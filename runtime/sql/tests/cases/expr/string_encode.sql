-- compare: changelog
SELECT
  TO_BASE64(s),
  FROM_BASE64('SGVsbG8='),
  HEX(s),
  ENCODE(s, 'UTF-8'),
  DECODE(ENCODE(s, 'UTF-16BE'), 'UTF-16BE'),
  URL_ENCODE(s),
  URL_DECODE('a%20b')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
