-- compare: changelog
SELECT
  TRY_CAST(s AS TINYINT),
  TRY_CAST(s AS INT),
  TRY_CAST(s AS BIGINT),
  TRY_CAST(s AS FLOAT),
  TRY_CAST(s AS DOUBLE),
  TRY_CAST(s AS DECIMAL(10, 3)),
  TRY_CAST(s AS DECIMAL(4, 0))
FROM (VALUES ('12'), (' 12 '), ('-7.5'), ('1e3'), ('+4'), ('0x1A'), (''), ('NaN'), ('1_000'), (CAST(NULL AS STRING))) AS t(s);
