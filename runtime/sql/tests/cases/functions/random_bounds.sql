-- compare: changelog
SELECT
  RAND() >= 0,
  RAND() < 1,
  RAND_INTEGER(5) < 5,
  RAND_INTEGER(1),
  CHAR_LENGTH(UUID())
FROM (VALUES (1), (2), (3)) AS t(i);
