-- compare: changelog
SELECT
  JSON_VALUE(j, '$.a'),
  JSON_VALUE(j, '$.a' RETURNING INT),
  JSON_VALUE(j, 'lax $.b.c'),
  JSON_VALUE(j, '$.d[0]'),
  JSON_VALUE(j, '$.zz' DEFAULT 'none' ON EMPTY),
  JSON_VALUE(j, '$.n'),
  JSON_VALUE(j, '$[1]')
FROM (VALUES ('{"a": 1, "b": {"c": "x"}, "d": [1, 2, {"e": true}], "n": null}'), ('[1, "two"]'), ('not json'), (CAST(NULL AS STRING))) AS t(j);
