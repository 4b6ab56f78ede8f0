SET 'execution.runtime-mode' = 'batch';
CREATE TABLE results (
  k INT, a STRING, b STRING
) WITH ('connector' = 'print');
INSERT INTO results
SELECT k, FIRST_VALUE(v), LAST_VALUE(v) FROM (VALUES (1, 'a'), (2, 'b'), (1, 'c')) AS t(k, v) GROUP BY k;
