-- compare: changelog
SELECT
  MAP_FROM_ARRAYS(ARRAY['a', 'b'], ARRAY[1, 2]),
  MAP_FROM_ARRAYS(CAST(NULL AS ARRAY<STRING>), ARRAY[1]),
  MAP[1, 'a', 2, 'b'][2],
  MAP['a', MAP['b', 1]]['a']['b'],
  MAP_ENTRIES(MAP['k', 1])
FROM (VALUES (1)) AS t(i);
