CREATE TABLE pipes (n INT, size STRING, note STRING) WITH ('connector' = 'filesystem', 'path' = '${input}/quotes.csv', 'format' = 'csv');
CREATE TABLE results (n INT, size STRING, note STRING) WITH ('connector' = 'print');
INSERT INTO results SELECT * FROM pipes;
