-- compare: changelog
SELECT
  ELT(1, 'a', 'b'),
  ELT(2, 'a', 'b'),
  ELT(3, 'a', 'b'),
  ELT(0, 'a', 'b'),
  ELT(CAST(NULL AS INT), 'a', 'b'),
  ELT(i, 'x', CAST(NULL AS STRING))
FROM (VALUES (1)) AS t(i);
