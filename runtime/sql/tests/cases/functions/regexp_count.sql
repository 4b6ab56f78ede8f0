-- compare: changelog
SELECT
  REGEXP_COUNT(s, 'o'),
  REGEXP_COUNT(s, '[a-z]+'),
  REGEXP_COUNT(s, '('),
  REGEXP_INSTR(s, 'o'),
  REGEXP_INSTR(s, '[^a-zA-Z]'),
  REGEXP_SUBSTR(s, '[a-z]+'),
  REGEXP_SUBSTR(s, 'q')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
