-- Compression and numbers as timestamps.
CREATE TABLE written (
  n INT, s STRING, t3 TIMESTAMP(3), t6 TIMESTAMP(6)
) WITH (
  'connector' = 'filesystem', 'path' = '${output}/files_parquet_options', 'format' = 'parquet',
  'parquet.compression' = 'GZIP', 'parquet.utc-timezone' = 'true', 'parquet.write.int64.timestamp' = 'true',
  'parquet.timestamp.time.unit' = 'micros'
);
INSERT INTO written VALUES
  (1, 'a', TIMESTAMP '2001-02-03 04:05:06.789', TIMESTAMP '2001-02-03 04:05:06.789012'),
  (2, 'b', CAST(NULL AS TIMESTAMP(3)), TIMESTAMP '1999-12-31 23:59:59');
CREATE TABLE results (n INT, s STRING, t3 TIMESTAMP(3), t6 TIMESTAMP(6)) WITH ('connector' = 'print');
INSERT INTO results SELECT * FROM written;
