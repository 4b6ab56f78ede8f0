CREATE TABLE nested (
  id INT, person ROW<name STRING, address ROW<city STRING, zip INT>>, tags ARRAY<STRING>, scores MAP<STRING, INT>, items ARRAY<ROW<sku STRING, n INT>>
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/nested.json',
  'format' = 'json'
);
CREATE TABLE results (
  id INT, k STRING, v INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT id, k, v FROM nested CROSS JOIN UNNEST(scores) AS x(k, v);
