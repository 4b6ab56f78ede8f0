SET 'execution.runtime-mode' = 'batch';
CREATE TABLE results (
  k INT, a STRING
) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, LISTAGG(v, '-') FROM (VALUES (1, 'a'), (2, 'b'), (1, 'c'), (1, CAST(NULL AS STRING))) AS t(k, v) GROUP BY k;
