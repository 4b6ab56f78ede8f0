-- compare: changelog
SELECT
  STR_TO_MAP('a=1,b=2'),
  STR_TO_MAP('a:1;b:2', ';', ':'),
  STR_TO_MAP('a'),
  STR_TO_MAP(''),
  STR_TO_MAP('a=1,a=2'),
  STR_TO_MAP(CAST(NULL AS STRING))
FROM (VALUES (1)) AS t(i);
