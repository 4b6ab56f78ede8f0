-- compare: changelog
SELECT
  TRY_CAST(s AS BOOLEAN)
FROM (VALUES ('true'), ('TRUE'), ('t'), ('yes'), ('1'), ('false'), ('F'), ('no'), ('0'), (' true '), ('maybe'), ('')) AS t(s);
