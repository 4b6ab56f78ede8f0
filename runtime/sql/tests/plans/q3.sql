-- tables: nexmark
CREATE TABLE results (n VARCHAR,c VARCHAR,s VARCHAR,i BIGINT) WITH ('connector' = 'print');
INSERT INTO results
SELECT P.name, P.city, P.state, A.id FROM auction AS A INNER JOIN person AS P on A.seller = P.id WHERE A.category = 10 and (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA');
