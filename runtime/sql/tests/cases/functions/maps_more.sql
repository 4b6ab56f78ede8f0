-- compare: changelog
SELECT
  m['x'],
  MAP_KEYS(m),
  MAP_VALUES(m),
  CARDINALITY(m),
  MAP_UNION(m, MAP['x', 9]),
  MAP_UNION(m, MAP['w', 0]),
  m = MAP['y', 2, 'x', 1],
  m IS NULL
FROM (VALUES (MAP['x', 1, 'y', 2]), (MAP['x', CAST(NULL AS INT)]), (CAST(NULL AS MAP<STRING, INT>))) AS t(m);
