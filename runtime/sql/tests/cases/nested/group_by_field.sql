CREATE TABLE nested (
  id INT, person ROW<name STRING, address ROW<city STRING, zip INT>>, tags ARRAY<STRING>, scores MAP<STRING, INT>, items ARRAY<ROW<sku STRING, n INT>>
) WITH (
  'connector' = 'filesystem',
  'path' = '${input}/nested.json',
  'format' = 'json'
);
CREATE TABLE results (
  c STRING, n BIGINT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT person.address.city, COUNT(*) FROM nested GROUP BY person.address.city;
