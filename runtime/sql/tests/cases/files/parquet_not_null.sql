-- The values of a column NOT NULL must be in the file.
CREATE TABLE of_flink (not_there INT NOT NULL, i32 INT) WITH ('connector' = 'filesystem', 'path' = '${input}/flink_types.parquet', 'format' = 'parquet');
CREATE TABLE results (n INT) WITH ('connector' = 'print');
INSERT INTO results SELECT not_there FROM of_flink;
