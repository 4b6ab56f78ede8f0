-- The file has a BIGINT.
CREATE TABLE of_flink (i64 INT) WITH ('connector' = 'filesystem', 'path' = '${input}/flink_types.parquet', 'format' = 'parquet');
CREATE TABLE results (n INT) WITH ('connector' = 'print');
INSERT INTO results SELECT i64 FROM of_flink;
