-- A file that real Flink wrote.
CREATE TABLE of_flink (
  b BOOLEAN, i8 TINYINT, i16 SMALLINT, i32 INT NOT NULL, i64 BIGINT, f FLOAT, d DOUBLE, narrow DECIMAL(5, 2), wide DECIMAL(38, 10),
  s STRING, c CHAR(3), raw_bytes BYTES, dt DATE, tm TIME(3), t3 TIMESTAMP(3), t9 TIMESTAMP(9), ltz TIMESTAMP_LTZ(6),
  r ROW<a INT, t TIMESTAMP(6), l ARRAY<STRING>>, m MAP<STRING, DECIMAL(20, 3)>, ts ARRAY<TIMESTAMP(3)>
) WITH ('connector' = 'filesystem', 'path' = '${input}/flink_types.parquet', 'format' = 'parquet');
CREATE TABLE results WITH ('connector' = 'print') LIKE of_flink (EXCLUDING ALL);
INSERT INTO results SELECT * FROM of_flink;
