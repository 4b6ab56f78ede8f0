-- tables: changes
CREATE TABLE results (k STRING) WITH ('connector' = 'print');
INSERT INTO results
SELECT a.k FROM logs a JOIN versions b ON a.k = b.cur AND a.ts BETWEEN b.vts AND b.vts + INTERVAL '1' MINUTE;
