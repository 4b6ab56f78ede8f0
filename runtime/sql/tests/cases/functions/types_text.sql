-- compare: changelog
SELECT
  TYPEOF(CONCAT('a', 'b')),
  TYPEOF(REPLACE('abc', 'b', 'x')),
  TYPEOF(CHAR_LENGTH('a')),
  TYPEOF(POSITION('a' IN 'abc')),
  TYPEOF(ENCODE('a', 'UTF-8')),
  TYPEOF(ASCII('a')),
  TYPEOF(REGEXP_EXTRACT_ALL('a', 'a'))
FROM (VALUES (1)) AS t(i);
