-- compare: changelog
SELECT
  REGEXP_EXTRACT(s, '([A-Z])([a-z]+)', 2),
  REGEXP_EXTRACT(s, '([A-Z])([a-z]+)'),
  REGEXP_EXTRACT(s, 'l+', 0),
  REGEXP_EXTRACT(s, '(x)', 3),
  REGEXP_EXTRACT_ALL(s, '([a-z])'),
  REGEXP_EXTRACT_ALL(s, '([a-z])([a-z])', 2),
  REGEXP_EXTRACT_ALL(s, 'l', 0)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
