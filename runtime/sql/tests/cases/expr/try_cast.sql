-- compare: changelog
SELECT
  TRY_CAST(s AS INT),
  TRY_CAST(s AS BIGINT),
  TRY_CAST(s AS DOUBLE),
  TRY_CAST(s AS BOOLEAN),
  TRY_CAST(s AS DECIMAL(6, 2)),
  TRY_CAST(s AS SMALLINT),
  CAST(s AS CHAR(3)),
  CAST(s AS VARCHAR(2))
FROM (VALUES ('12'), (' 12 '), ('1.5'), ('x'), (''), ('true'), ('2147483648'), (CAST(NULL AS STRING))) AS t(s);
