-- compare: changelog
SELECT
  OVERLAY(s PLACING '##' FROM 1),
  OVERLAY(s PLACING '##' FROM 3 FOR 0),
  OVERLAY(s PLACING '##' FROM 99),
  OVERLAY(s PLACING '' FROM 2 FOR 2),
  OVERLAY(s PLACING '##' FROM -1 FOR 1)
FROM (VALUES ('Hello World'), (''), ('  pad '), (CAST(NULL AS STRING)), ('äöü€😀x'), ('a,b,,c')) AS t(s);
