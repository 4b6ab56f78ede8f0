-- compare: changelog
SELECT
  CARDINALITY(m),
  m['x'],
  m['q'],
  MAP_KEYS(m),
  MAP_VALUES(m),
  MAP_ENTRIES(m),
  STR_TO_MAP('a=1,b=2'),
  MAP_FROM_ARRAYS(ARRAY['k'], ARRAY[1]),
  MAP_UNION(m, MAP['z', 3])
FROM (VALUES (MAP['x', 1, 'y', 2]), (CAST(NULL AS MAP<STRING, INT>))) AS t(m);
