-- compare: changelog
SELECT
  IS_ALPHA(s),
  IS_DIGIT(s),
  IS_DECIMAL(s),
  s > 'H',
  s BETWEEN 'A' AND 'Z',
  s IN ('', 'Hello World')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
