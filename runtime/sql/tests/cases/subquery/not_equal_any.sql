CREATE VIEW few AS SELECT * FROM (VALUES (1, 10), (2, 20), (4, CAST(NULL AS INT))) AS t(k, v);
CREATE VIEW many AS SELECT * FROM (VALUES (1, 10), (2, 25), (3, 30), (5, CAST(NULL AS INT))) AS t(k, v);
CREATE TABLE results (
  k INT
) WITH ('connector' = 'print');
INSERT INTO results
SELECT k FROM many WHERE v <> SOME (SELECT v FROM few WHERE k = 1);
