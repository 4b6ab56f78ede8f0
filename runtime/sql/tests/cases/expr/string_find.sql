-- compare: changelog
SELECT
  POSITION('o' IN s),
  LOCATE('o', s),
  LOCATE('o', s, 6),
  INSTR(s, 'o'),
  REPLACE(s, 'o', '0'),
  OVERLAY(s PLACING 'XX' FROM 2 FOR 3)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
