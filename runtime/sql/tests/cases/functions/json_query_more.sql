SELECT
  JSON_QUERY(j, '$.b'),
  JSON_QUERY(j, '$'),
  JSON_QUERY(j, '$.a' WITH CONDITIONAL ARRAY WRAPPER),
  JSON_QUERY(j, '$.b' WITH UNCONDITIONAL ARRAY WRAPPER),
  JSON_QUERY(j, 'lax $.q' EMPTY OBJECT ON EMPTY),
  JSON_QUERY(j, 'strict $.q' EMPTY ARRAY ON ERROR),
  JSON_QUERY(j, 'lax $.b[*].c'),
  JSON_QUERY(j, '$.b' RETURNING ARRAY<STRING>)
FROM (VALUES ('{"a":1,"b":[1,2,{"c":"d"}],"n":null,"t":true,"x y":{"z":1.50}}'), ('[1,2,3]'), ('"text"'), ('{bad'), (CAST(NULL AS STRING))) AS t(j);
