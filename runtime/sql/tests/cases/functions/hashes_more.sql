-- compare: changelog
SELECT
  SHA384(s),
  SHA512(s),
  SHA2(s, 256),
  SHA2(s, 224),
  SHA2(s, 384),
  MD5(UPPER(s))
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
