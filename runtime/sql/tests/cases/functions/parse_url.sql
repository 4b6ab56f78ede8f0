-- compare: changelog
SELECT
  PARSE_URL(s, 'HOST'),
  PARSE_URL(s, 'PATH'),
  PARSE_URL(s, 'QUERY'),
  PARSE_URL(s, 'QUERY', 'k1'),
  PARSE_URL(s, 'REF'),
  PARSE_URL(s, 'PROTOCOL'),
  PARSE_URL(s, 'AUTHORITY'),
  PARSE_URL(s, 'FILE'),
  PARSE_URL(s, 'USERINFO'),
  PARSE_URL(s, 'QUERY', 'k2')
FROM (VALUES ('http://user:pw@host.com:8080/p/q.php?k1=v1&k2=#Ref1'), ('https://x.org'), ('no url'), (CAST(NULL AS STRING))) AS t(s);
