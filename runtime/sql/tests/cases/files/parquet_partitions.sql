-- Partitions are in the folders' names.
CREATE TABLE written (
  n INT, dt STRING, hm INT
) PARTITIONED BY (dt, hm) WITH (
  'connector' = 'filesystem', 'path' = '${output}/files_parquet_partitions', 'format' = 'parquet'
);
INSERT INTO written VALUES
  (1, '2020-01-01', 5), (2, '2020-01-02', 5), (3, '2020-01-01', 5), (5, 'a/b', 7);
CREATE TABLE results (hm INT, n INT, dt STRING) WITH ('connector' = 'print');
INSERT INTO results SELECT hm, n, dt FROM written WHERE n <> 2;
