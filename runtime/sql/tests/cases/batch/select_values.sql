SET 'execution.runtime-mode' = 'batch';
SELECT * FROM (VALUES (1, 'a'), (2, CAST(NULL AS STRING))) AS t(k, v) ORDER BY k DESC;
