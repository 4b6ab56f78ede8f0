-- compare: changelog
SET 'table.local-time-zone' = 'UTC';
SELECT
  TO_TIMESTAMP_LTZ('2023-01-01 00:00:00'),
  TO_TIMESTAMP_LTZ('01/02/2023', 'dd/MM/yyyy'),
  TO_TIMESTAMP_LTZ('2023-01-01 00:00:00', 'yyyy-MM-dd HH:mm:ss', 'Asia/Shanghai'),
  TO_TIMESTAMP_LTZ(100)
FROM (VALUES (1)) AS t(i);
