-- compare: changelog
SELECT 1 AS a, 'x' AS b, CAST(NULL AS INT) AS c;
