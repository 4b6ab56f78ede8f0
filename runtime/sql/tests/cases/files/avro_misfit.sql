-- The file has a BIGINT.
CREATE TABLE of_flink (i64 STRING) WITH ('connector' = 'filesystem', 'path' = '${input}/flink_types.avro', 'format' = 'avro');
CREATE TABLE results (n STRING) WITH ('connector' = 'print');
INSERT INTO results SELECT i64 FROM of_flink;
