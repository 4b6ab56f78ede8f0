-- compare: changelog
SELECT
  PARSE_URL(u, 'HOST'),
  PARSE_URL(u, 'PATH'),
  PARSE_URL(u, 'QUERY'),
  PARSE_URL(u, 'QUERY', 'r'),
  PARSE_URL(u, 'REF'),
  PARSE_URL(u, 'PROTOCOL')
FROM (VALUES ('http://user@h.com:80/p/a?q=1&r=2#f')) AS t(u);
