-- tables: changes
CREATE TABLE results (k STRING) WITH ('connector' = 'print');
INSERT INTO results
SELECT k FROM logs l WHERE EXISTS (SELECT 1 FROM shops WHERE sid = l.v) AND l.w > 3;
