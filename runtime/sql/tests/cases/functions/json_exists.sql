SELECT
  JSON_EXISTS(j, '$.a'),
  JSON_EXISTS(j, 'lax $.q'),
  JSON_EXISTS(j, '$.b[2].c'),
  JSON_EXISTS(j, 'strict $.q' TRUE ON ERROR),
  JSON_EXISTS(j, 'strict $.q' FALSE ON ERROR),
  JSON_EXISTS(j, '$.n'),
  JSON_EXISTS(j, 'strict $.q' UNKNOWN ON ERROR)
FROM (VALUES ('{"a":1,"b":[1,2,{"c":"d"}],"n":null,"t":true,"x y":{"z":1.50}}'), ('[1,2,3]'), ('"text"'), ('{bad'), (CAST(NULL AS STRING))) AS t(j);
