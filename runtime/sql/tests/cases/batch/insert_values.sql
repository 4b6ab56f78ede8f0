SET 'execution.runtime-mode' = 'batch';
CREATE TABLE results (
  k INT, v STRING
) WITH ('connector' = 'print');
INSERT INTO results
VALUES (1, 'a'), (2, 'b');
