-- Rows of a partition go to one subtask.
CREATE TABLE written (
  n INT, dt STRING, hm INT
) PARTITIONED BY (dt, hm) WITH (
  'connector' = 'filesystem', 'path' = '${output}/files_shuffle', 'format' = 'parquet', 'sink.shuffle-by-partition.enable' = 'true'
);
SET 'parallelism.default' = '3';
INSERT INTO written VALUES (1, '2020-01-01', 5), (2, '2020-01-02', 5), (3, '2020-01-01', 5), (5, '2020-01-01', 7);
INSERT INTO written PARTITION (dt = '2020-01-03') VALUES (6, 1), (7, 2);
CREATE TABLE results (hm INT, n INT, dt STRING) WITH ('connector' = 'print', 'sink.parallelism' = '1');
INSERT INTO results SELECT hm, n, dt FROM written;
