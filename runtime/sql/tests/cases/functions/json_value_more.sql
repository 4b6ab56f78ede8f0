SELECT
  JSON_VALUE(j, '$.a'),
  JSON_VALUE(j, '$.a' RETURNING INT),
  JSON_VALUE(j, '$.t' RETURNING BOOLEAN),
  JSON_VALUE(j, '$.[''x y''].z' RETURNING DOUBLE),
  JSON_VALUE(j, '$.b[0]'),
  JSON_VALUE(j, 'lax $.q' DEFAULT 'none' ON EMPTY),
  JSON_VALUE(j, 'strict $.q' DEFAULT 'bad' ON ERROR),
  JSON_VALUE(j, '$.b'),
  JSON_VALUE(j, '$.n')
FROM (VALUES ('{"a":1,"b":[1,2,{"c":"d"}],"n":null,"t":true,"x y":{"z":1.50}}'), ('[1,2,3]'), ('"text"'), ('{bad'), (CAST(NULL AS STRING))) AS t(j);
