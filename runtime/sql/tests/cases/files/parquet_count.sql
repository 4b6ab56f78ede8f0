-- Rows are counted without a column being read.
CREATE TABLE of_flink (s STRING) WITH ('connector' = 'filesystem', 'path' = '${input}/flink_types.parquet', 'format' = 'parquet');
CREATE TABLE results (n BIGINT) WITH ('connector' = 'print');
INSERT INTO results SELECT COUNT(*) FROM of_flink;
