-- One INSERT for each kind of operator with state. What is only added goes to files, what changes to the console.
SET 'pipeline.name' = 'operators';
CREATE TABLE numbers (n BIGINT, k AS MOD(n, 13), ts AS TO_TIMESTAMP_LTZ(n, 3), WATERMARK FOR ts AS ts) WITH (
  'connector' = 'datagen', 'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '20000', 'rows-per-second' = '${rate}'
);
-- In order, because a version that comes behind a later one of its key is dropped.
CREATE TABLE others (m BIGINT, j AS MOD(m * 7, 13), ts AS TO_TIMESTAMP_LTZ(m, 3), WATERMARK FOR ts AS ts) WITH (
  'connector' = 'datagen', 'scan.parallelism' = '1', 'fields.m.kind' = 'sequence', 'fields.m.start' = '1', 'fields.m.end' = '20000', 'rows-per-second' = '${rate}'
);
CREATE VIEW versions AS
  SELECT j, m, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY j ORDER BY ts DESC) AS rn FROM others WHERE MOD(m, 9) = 0) WHERE rn = 1;
CREATE VIEW bursts AS SELECT n, k, ts FROM numbers WHERE MOD(n, 1000) < 500;

CREATE TABLE firsts (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = 'file://${out}/firsts', 'format' = 'csv');
CREATE TABLE in_order (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = 'file://${out}/in_order', 'format' = 'csv');
CREATE TABLE intervals (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = 'file://${out}/intervals', 'format' = 'csv');
CREATE TABLE moving (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = 'file://${out}/moving', 'format' = 'csv');
CREATE TABLE sessions (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = 'file://${out}/sessions', 'format' = 'csv');
CREATE TABLE temporal (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = 'file://${out}/temporal', 'format' = 'csv');
CREATE TABLE window_counts (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = 'file://${out}/window_counts', 'format' = 'csv');
CREATE TABLE window_pairs (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = 'file://${out}/window_pairs', 'format' = 'csv');
CREATE TABLE window_tops (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = 'file://${out}/window_tops', 'format' = 'csv');
CREATE TABLE changing (what STRING, id BIGINT, v BIGINT) WITH ('connector' = 'print');

INSERT INTO firsts
  SELECT g, n, k FROM (SELECT MOD(n, 997) AS g, n, k, ROW_NUMBER() OVER (PARTITION BY MOD(n, 997) ORDER BY ts) AS rn FROM numbers) WHERE rn = 1;
INSERT INTO in_order SELECT n, k, 0 FROM numbers WHERE MOD(n, 50) = 0 ORDER BY ts;
INSERT INTO intervals
  SELECT n, m, k FROM numbers JOIN others ON k = j AND numbers.ts BETWEEN others.ts - INTERVAL '0.02' SECOND AND others.ts;
INSERT INTO moving
  SELECT n, k, SUM(n) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM numbers;
INSERT INTO sessions
  SELECT k, COUNT(*), MAX(n) FROM TABLE(SESSION(TABLE bursts PARTITION BY k, DESCRIPTOR(ts), INTERVAL '0.1' SECOND))
  GROUP BY k, window_start, window_end;
INSERT INTO temporal
  SELECT n, v.m, k FROM numbers LEFT JOIN versions FOR SYSTEM_TIME AS OF numbers.ts AS v ON k = v.j WHERE MOD(n, 3) = 0;
INSERT INTO window_counts
  SELECT k, COUNT(DISTINCT MOD(n, 7)), SUM(n) FROM TABLE(HOP(TABLE numbers, DESCRIPTOR(ts), INTERVAL '0.5' SECOND, INTERVAL '1' SECOND))
  GROUP BY k, window_start, window_end;
INSERT INTO window_pairs
  SELECT l.n, r.m, l.k
  FROM (SELECT * FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '1' SECOND)) WHERE MOD(n, 40) = 0) AS l
  JOIN (SELECT * FROM TABLE(TUMBLE(TABLE others, DESCRIPTOR(ts), INTERVAL '1' SECOND)) WHERE MOD(m, 40) = 0) AS r
  ON l.k = r.j AND l.window_start = r.window_start AND l.window_end = r.window_end;
INSERT INTO window_tops
  SELECT k, n, rn FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY n DESC) AS rn
    FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '1' SECOND))
  ) WHERE rn <= 2;
INSERT INTO changing SELECT 'count', k, COUNT(DISTINCT MOD(n, 1000)) + COUNT(*) FROM numbers GROUP BY k;
INSERT INTO changing
  SELECT 'last', k, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM numbers) WHERE rn = 1;
INSERT INTO changing
  SELECT 'top', g * 10 + rn, n
  FROM (SELECT MOD(n, 5) AS g, n, ROW_NUMBER() OVER (PARTITION BY MOD(n, 5) ORDER BY n DESC) AS rn FROM numbers) WHERE rn <= 3;
INSERT INTO changing
  SELECT 'inner', k, COUNT(*) FROM (SELECT n, k FROM numbers WHERE MOD(n, 500) = 0) AS l
  JOIN (SELECT j, MAX(m) AS m FROM others WHERE MOD(m, 100) = 0 GROUP BY j) AS r ON k = j AND n <= m GROUP BY k;
INSERT INTO changing
  SELECT 'left', k, COUNT(m) + COUNT(*) FROM (SELECT n, k FROM numbers WHERE MOD(n, 10) = 0) AS l
  LEFT JOIN (SELECT m FROM others WHERE MOD(m, 30) = 0) AS r ON n = m GROUP BY k;
INSERT INTO changing
  SELECT 'in', k, COUNT(*) FROM numbers WHERE MOD(n, 10) = 0 AND n IN (SELECT m FROM others WHERE MOD(m, 20) = 0) GROUP BY k;
INSERT INTO changing
  SELECT 'except', MOD(n, 3), COUNT(*) FROM (SELECT n FROM numbers WHERE MOD(n, 10) = 0 EXCEPT SELECT m FROM others WHERE MOD(m, 40) = 0) GROUP BY MOD(n, 3);
