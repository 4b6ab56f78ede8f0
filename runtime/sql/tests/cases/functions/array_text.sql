-- compare: changelog
SELECT
  CARDINALITY(a),
  a[2],
  ARRAY_CONTAINS(a, 'a'),
  ARRAY_DISTINCT(a),
  ARRAY_POSITION(a, 'a'),
  ARRAY_REMOVE(a, 'a'),
  ARRAY_REVERSE(a),
  ARRAY_SORT(a),
  ARRAY_JOIN(a, '|'),
  ARRAY_JOIN(a, '|', '?')
FROM (VALUES (ARRAY['b', 'a', 'c', 'a']), (ARRAY['x', CAST(NULL AS STRING), 'x']), (CAST(NULL AS ARRAY<STRING>))) AS t(a);
