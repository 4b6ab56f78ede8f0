-- tables: nexmark
CREATE VIEW pb AS SELECT *, PROCTIME() as p_time FROM bid;
CREATE TABLE results (b BIGINT,n BIGINT,s TIMESTAMP(3),e TIMESTAMP(3)) WITH ('connector' = 'print');
INSERT INTO results
SELECT bidder, count(*) as bid_count, window_start AS starttime, window_end AS endtime FROM TABLE(TUMBLE(TABLE pb, DESCRIPTOR(p_time), INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end;
