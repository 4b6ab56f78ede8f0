-- compare: changelog
SET 'table.local-time-zone' = 'Europe/Berlin';
SELECT
  UNIX_TIMESTAMP('1970-01-01 08:00:01.001', 'yyyy-MM-dd HH:mm:ss.SSS'),
  UNIX_TIMESTAMP('bad'),
  FROM_UNIXTIME(44),
  FROM_UNIXTIME(1609459200, 'yyyy-MM-dd'),
  FROM_UNIXTIME(-1),
  CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'America/Los_Angeles'),
  CONVERT_TZ('bad', 'UTC', 'UTC')
FROM (VALUES (1)) AS t(i);
