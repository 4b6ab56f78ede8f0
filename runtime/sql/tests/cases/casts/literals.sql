-- compare: changelog
SELECT
  1,
  1.5,
  1e2,
  'it''s',
  TRUE,
  DATE '2020-02-29',
  TIME '01:02:03',
  TIMESTAMP '2020-01-01 00:00:00.123456',
  CAST(NULL AS INT),
  U&'\00e4',
  -0.0
FROM (VALUES (1)) AS t(i);
