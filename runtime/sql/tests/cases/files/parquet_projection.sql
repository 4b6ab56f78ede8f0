-- Columns by name, in another order; what the file doesn't have is null.
CREATE TABLE of_flink (
  not_there STRING, r ROW<a INT, t TIMESTAMP(6), l ARRAY<STRING>>, s STRING, i64 BIGINT
) WITH ('connector' = 'filesystem', 'path' = '${input}/flink_types.parquet', 'format' = 'parquet');
CREATE TABLE results (i64 BIGINT, a INT, s STRING, not_there STRING) WITH ('connector' = 'print');
INSERT INTO results SELECT i64, r.a, s, not_there FROM of_flink;
