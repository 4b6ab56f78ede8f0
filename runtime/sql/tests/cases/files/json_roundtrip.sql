-- Rows as lines, written and read again.
CREATE TABLE written (n INT, r ROW<a STRING, l ARRAY<INT>>) WITH (
  'connector' = 'filesystem', 'path' = '${output}/files_json_roundtrip', 'format' = 'json'
);
INSERT INTO written VALUES (1, ROW('x', ARRAY[1, 2])), (2, CAST(NULL AS ROW<a STRING, l ARRAY<INT>>));
CREATE TABLE results (n INT, a STRING, l ARRAY<INT>) WITH ('connector' = 'print');
INSERT INTO results SELECT n, r.a, r.l FROM written;
