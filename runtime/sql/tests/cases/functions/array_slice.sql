-- compare: changelog
SELECT
  ARRAY_SLICE(a, 1),
  ARRAY_SLICE(a, 0, 2),
  ARRAY_SLICE(a, -2),
  ARRAY_SLICE(a, -3, -2),
  ARRAY_SLICE(a, 3, 2),
  ARRAY_SLICE(a, 9, 10),
  ARRAY_SLICE(a, 2, 99)
FROM (VALUES (ARRAY[3, 1, 2, 1]), (ARRAY[CAST(NULL AS INT), 5]), (CAST(NULL AS ARRAY<INT>))) AS t(a);
