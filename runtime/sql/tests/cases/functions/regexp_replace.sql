-- compare: changelog
SELECT
  REGEXP_REPLACE(s, '[aeiou]', '*'),
  REGEXP_REPLACE(s, '(l+)', '<$1>'),
  REGEXP_REPLACE(s, '\s+', '_'),
  REGEXP(s, 'o.*o'),
  REGEXP(s, '^$')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
