-- tables: changes
CREATE TABLE results (k INT,v INT) WITH ('connector' = 'print');
INSERT INTO results
SELECT shop, amount FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY shop ORDER BY id DESC) r FROM cdc) WHERE r = 1;
