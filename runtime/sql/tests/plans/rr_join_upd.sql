-- tables: changes
CREATE TABLE results (k STRING,v INT,m BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT a.k, a.v, b.n FROM (SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) r FROM logs) WHERE r <= 1) a JOIN (SELECT k, COUNT(*) n FROM logs GROUP BY k) b ON a.k = b.k;
