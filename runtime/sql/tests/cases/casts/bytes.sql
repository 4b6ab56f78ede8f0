-- compare: changelog
SELECT
  CAST(X'48656C6C6F' AS STRING),
  X'0102',
  CAST('abc' AS BINARY(2)),
  CAST('abc' AS BINARY(5)),
  CAST(X'616263' AS CHAR(2)),
  HEX('abc'),
  CAST(X'0102' AS VARBINARY(1))
FROM (VALUES (1)) AS t(i);
