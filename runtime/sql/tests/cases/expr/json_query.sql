-- compare: changelog
SELECT
  JSON_QUERY(j, '$.b'),
  JSON_QUERY(j, '$.d'),
  JSON_QUERY(j, '$.a' WITH WRAPPER),
  JSON_QUERY(j, '$.zz' EMPTY ARRAY ON EMPTY),
  JSON_EXISTS(j, '$.a'),
  JSON_EXISTS(j, '$.zz'),
  j IS JSON,
  j IS JSON OBJECT,
  j IS JSON ARRAY
FROM (VALUES ('{"a": 1, "b": {"c": "x"}, "d": [1, 2, {"e": true}], "n": null}'), ('[1, "two"]'), ('not json'), (CAST(NULL AS STRING))) AS t(j);
