CREATE TABLE f (a INT) WITH ('connector' = 'filesystem', 'path' = '/never', 'format' = 'json', 'scan.watermark.idle-timeout' = 'soon');
SELECT * FROM f;
