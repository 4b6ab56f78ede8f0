CREATE TABLE f (a INT) WITH ('connector' = 'filesystem', 'path' = '/never', 'format' = 'debezium-json', 'debezium-json.schema-include' = 'true');
INSERT INTO f VALUES (1);
