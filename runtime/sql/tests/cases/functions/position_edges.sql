-- compare: changelog
SELECT
  POSITION('' IN s),
  POSITION('World' IN s),
  LOCATE('l', s, 5),
  LOCATE('l', s, 0),
  INSTR(s, ''),
  INSTR(s, '😀')
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
