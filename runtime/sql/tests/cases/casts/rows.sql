-- compare: changelog
SELECT
  CAST(r AS ROW<n BIGINT, t STRING>),
  CAST(r AS STRING),
  CAST(r AS ROW<n STRING, t CHAR(3)>)
FROM (VALUES (1, ROW(1, 'a')), (2, ROW(3, 'b'))) AS t(i, r);
