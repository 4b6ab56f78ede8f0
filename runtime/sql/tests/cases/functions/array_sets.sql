-- compare: changelog
SELECT
  ARRAY_UNION(a, ARRAY['z', 'a']),
  ARRAY_EXCEPT(a, ARRAY['a']),
  ARRAY_INTERSECT(a, ARRAY['x', 'a']),
  ARRAY_CONCAT(a, a),
  ARRAY_APPEND(a, CAST(NULL AS STRING)),
  ARRAY_PREPEND(a, 'q'),
  ARRAY_CONCAT(a)
FROM (VALUES (ARRAY['b', 'a', 'c', 'a']), (ARRAY['x', CAST(NULL AS STRING), 'x']), (CAST(NULL AS ARRAY<STRING>))) AS t(a);
