-- compare: changelog
SELECT
  REGEXP_EXTRACT(s, '([A-Z])(\w+)', 2),
  REGEXP_REPLACE(s, '[aeiou]', '_'),
  REGEXP(s, 'l+'),
  REGEXP_EXTRACT(s, 'zzz', 0),
  REGEXP_COUNT(s, 'l'),
  REGEXP_SUBSTR(s, 'o.'),
  REGEXP_INSTR(s, 'o')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
