-- Fields by name, in another order; numbers are widened, what the file doesn't have is null.
CREATE TABLE of_flink (
  not_there STRING, s STRING, i32 BIGINT, f DOUBLE
) WITH ('connector' = 'filesystem', 'path' = '${input}/flink_types.avro', 'format' = 'avro');
CREATE TABLE results (f DOUBLE, i32 BIGINT, s STRING, not_there STRING) WITH ('connector' = 'print');
INSERT INTO results SELECT f, i32, s, not_there FROM of_flink;
