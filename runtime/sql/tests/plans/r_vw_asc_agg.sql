-- tables: changes
CREATE TABLE results (v INT,n BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT v, COUNT(*) FROM (SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v ASC, w ASC) r FROM logs) WHERE r <= 1) GROUP BY v;
