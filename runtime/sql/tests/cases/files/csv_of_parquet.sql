-- From one format to another.
CREATE TABLE written (n INT, s STRING) WITH ('connector' = 'filesystem', 'path' = '${output}/files_csv_of_parquet', 'format' = 'csv');
CREATE TABLE of_flink (
  s STRING, i32 INT
) WITH ('connector' = 'filesystem', 'path' = '${input}/flink_types.parquet', 'format' = 'parquet');
INSERT INTO written SELECT i32, CONCAT(s, '!') FROM of_flink;
CREATE TABLE results (n INT, s STRING) WITH ('connector' = 'print');
INSERT INTO results SELECT * FROM written;
