SELECT
  j IS JSON,
  j IS NOT JSON,
  j IS JSON OBJECT,
  j IS JSON ARRAY,
  j IS JSON SCALAR,
  j IS JSON VALUE,
  j IS NOT JSON OBJECT
FROM (VALUES ('{"a":1,"b":[1,2,{"c":"d"}],"n":null,"t":true,"x y":{"z":1.50}}'), ('[1,2,3]'), ('"text"'), ('{bad'), (CAST(NULL AS STRING))) AS t(j);
