-- compare: changelog
SELECT
  MD5(s),
  SHA1(s),
  SHA256(s),
  SHA2(s, 512),
  SHA224(s)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
