SET 'execution.runtime-mode' = 'batch';
CREATE TABLE t (k INT) WITH ('connector' = 'datagen');
CREATE TABLE results (
  k INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT k FROM t;
