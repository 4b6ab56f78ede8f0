-- compare: changelog
SELECT
  ROW(1, 'a'),
  (i, 'x', TRUE),
  ROW(1, 'a') = ROW(1, 'a'),
  ROW(1, CAST(NULL AS STRING)),
  ROW(ROW(1), ARRAY[2]),
  CAST(ROW(1, 'a') AS ROW<n BIGINT, t STRING>)
FROM (VALUES (1)) AS t(i);
