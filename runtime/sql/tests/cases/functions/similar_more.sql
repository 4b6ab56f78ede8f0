-- compare: changelog
SELECT
  s SIMILAR TO '%(o|b)%',
  s SIMILAR TO '[A-Z]%',
  s SIMILAR TO '[^a]%',
  s NOT SIMILAR TO 'a%',
  s SIMILAR TO '_{6}',
  s SIMILAR TO ''
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
