-- compare: changelog
SELECT
  IS_ALPHA(s),
  IS_DIGIT(s),
  IS_DECIMAL(s),
  IS_DECIMAL('-1.5'),
  IS_DIGIT('12'),
  IS_ALPHA('abc'),
  IS_DECIMAL('1e3')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
