-- No Avro but text.
CREATE TABLE texts (i32 INT) WITH ('connector' = 'filesystem', 'path' = '${input}/plain.csv', 'format' = 'avro');
CREATE TABLE results (n INT) WITH ('connector' = 'print');
INSERT INTO results SELECT i32 FROM texts;
