-- Blocks may be compressed in several ways.
CREATE TABLE written (n INT, s STRING) WITH (
  'connector' = 'filesystem', 'path' = '${output}/files_avro_codec', 'format' = 'avro', 'avro.codec' = 'deflate'
);
INSERT INTO written VALUES (1, 'a'), (2, CAST(NULL AS STRING));
CREATE TABLE results (n INT, s STRING) WITH ('connector' = 'print');
INSERT INTO results SELECT * FROM written;
