-- A file that real Flink wrote.
CREATE TABLE of_flink (
  b BOOLEAN, i8 TINYINT, i16 SMALLINT, i32 INT NOT NULL, i64 BIGINT, f FLOAT, d DOUBLE, narrow DECIMAL(5, 2), wide DECIMAL(38, 10),
  s STRING, c CHAR(3), raw_bytes BYTES, dt DATE, tm TIME(3), t3 TIMESTAMP(3),
  r ROW<a INT, t TIMESTAMP(3), l ARRAY<STRING>>, m MAP<STRING, DECIMAL(20, 3)>, ts ARRAY<TIMESTAMP(3)>
) WITH ('connector' = 'filesystem', 'path' = '${input}/flink_types.avro', 'format' = 'avro');
CREATE TABLE results (
  b BOOLEAN, i8 TINYINT, i16 SMALLINT, i32 INT NOT NULL, i64 BIGINT, f FLOAT, d DOUBLE, narrow DECIMAL(5, 2), wide DECIMAL(38, 10),
  s STRING, c CHAR(3), raw_bytes BYTES, dt DATE, tm TIME(3), t3 TIMESTAMP(3),
  r ROW<a INT, t TIMESTAMP(3), l ARRAY<STRING>>, m DECIMAL(20, 3), ts ARRAY<TIMESTAMP(3)>
) WITH ('connector' = 'print');
INSERT INTO results SELECT b, i8, i16, i32, i64, f, d, narrow, wide, s, c, raw_bytes, dt, tm, t3, r, m['k'], ts FROM of_flink;
