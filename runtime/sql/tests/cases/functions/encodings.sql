-- compare: changelog
SELECT
  TO_BASE64(s),
  FROM_BASE64(TO_BASE64(s)),
  HEX(s),
  ENCODE(s, 'UTF-16BE'),
  DECODE(ENCODE(s, 'UTF-8'), 'UTF-8'),
  DECODE(ENCODE(s, 'UTF-16LE'), 'UTF-16LE'),
  UNHEX('616263'),
  UNHEX('xyz')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
