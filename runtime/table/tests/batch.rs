//! A stream and a batch plan of the same query over the same rows: what is left of the stream's changes is what the batch gives.
//!
//! Rows are random: nulls, duplicates, times out of order within the watermark. A longer run: `PROPTEST_CASES=200`.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use thalweg_connectors::ConnectorError;
use thalweg_connectors::table::TableConnectors;
use thalweg_sql::script::Script;
use thalweg_sql::session::{Outcome, Session};
use thalweg_table::{Collector, LocalRun, job_program};
use thalweg_types::StreamBatch;
use thalweg_types::config::Configuration;
use thalweg_types::element::RowKind;

const CASES: u32 = 4;

const TABLES: &str = "
CREATE TABLE t (id INT, k INT, s STRING, v BIGINT, d DECIMAL(10, 2), x DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' HOUR)
  WITH ('connector' = 'filesystem', 'path' = '${folder}/t.json', 'format' = 'json');
CREATE TABLE u (id INT, k INT, s STRING, v BIGINT, d DECIMAL(10, 2), x DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' HOUR)
  WITH ('connector' = 'filesystem', 'path' = '${folder}/u.json', 'format' = 'json');
";

/// One a class of operators at least.
const QUERIES: &[&str] = &[
    "SELECT id, v * 2, UPPER(s), COALESCE(k, -1) FROM t WHERE v > 0 OR s IS NULL",
    "SELECT k, COUNT(*), COUNT(v), SUM(v), AVG(v), MIN(v), MAX(v), MIN(s), MAX(ts), SUM(d), AVG(d), MAX(x) FROM t GROUP BY k",
    "SELECT k, COUNT(DISTINCT s), SUM(DISTINCT v), COUNT(*) FILTER (WHERE v > 0), SUM(DISTINCT v) FILTER (WHERE s = 'a') FROM t GROUP BY k",
    "SELECT COUNT(*), SUM(v), COUNT(DISTINCT k) FROM t HAVING COUNT(*) > 0",
    "SELECT k, s, GROUPING_ID(k, s), COUNT(*) FROM t GROUP BY ROLLUP (k, s) HAVING COUNT(*) > 0",
    "SELECT n, COUNT(*) FROM (SELECT k, COUNT(*) AS n FROM t GROUP BY k) GROUP BY n",
    "SELECT DISTINCT k, s FROM t",
    "SELECT t.id, u.id, t.v FROM t JOIN u ON t.k = u.k",
    "SELECT t.id, u.id FROM t LEFT JOIN u ON t.k = u.k AND t.v > u.v",
    "SELECT t.id, u.id FROM t RIGHT JOIN u ON t.k = u.k AND t.s = u.s",
    "SELECT t.id, u.id FROM t FULL JOIN u ON t.k = u.k AND t.v <> u.v",
    "SELECT t.id, u.id FROM t JOIN u ON t.v > u.v AND t.id < 5",
    "SELECT a.k, a.n, b.n FROM (SELECT k, COUNT(*) AS n FROM t GROUP BY k) a JOIN (SELECT k, SUM(v) AS n FROM u GROUP BY k) b ON a.k = b.k",
    "SELECT t.id, u.id FROM t JOIN u ON t.k = u.k AND t.ts BETWEEN u.ts - INTERVAL '5' SECOND AND u.ts + INTERVAL '5' SECOND",
    "SELECT t.id, u.id FROM t FULL JOIN u ON t.k = u.k AND t.ts BETWEEN u.ts AND u.ts + INTERVAL '20' SECOND",
    "SELECT id FROM t WHERE k IN (SELECT k FROM u WHERE v > 0)",
    "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.k AND u.s = t.s)",
    "SELECT id FROM t WHERE k NOT IN (SELECT k FROM u WHERE v > 5)",
    "SELECT id FROM t WHERE v > (SELECT AVG(v) FROM u)",
    "SELECT id, k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC, id) AS n FROM t) WHERE n <= 2",
    "SELECT id, k, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY s, id) AS n FROM t) WHERE n BETWEEN 2 AND 3",
    "SELECT k, v, id FROM t ORDER BY v, id LIMIT 5",
    "SELECT id, k FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts) AS n FROM t) WHERE n = 1",
    "SELECT id, k FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS n FROM t) WHERE n = 1",
    "SELECT id, SUM(v) OVER (PARTITION BY k ORDER BY ts), COUNT(*) OVER (PARTITION BY k ORDER BY ts) FROM t",
    "SELECT id, SUM(v) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM t",
    "SELECT id, MAX(v) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW) FROM t",
    "SELECT k, window_start, window_end, window_time, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))
     GROUP BY k, window_start, window_end, window_time",
    "SELECT window_end, COUNT(DISTINCT k), MIN(v) FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND))
     GROUP BY window_start, window_end",
    "SELECT k, window_start, AVG(v) FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND))
     GROUP BY k, window_start, window_end",
    "SELECT window_end, MAX(n) FROM (SELECT k, window_start, window_end, COUNT(*) AS n
     FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end) GROUP BY window_start, window_end",
    "SELECT id, window_end, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY v, id) AS n
     FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE n <= 2",
    "SELECT L.id, R.id, L.window_end FROM (SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))) L
     LEFT JOIN (SELECT * FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '10' SECOND))) R
     ON L.k = R.k AND L.window_start = R.window_start AND L.window_end = R.window_end",
    "SELECT k, TUMBLE_START(ts, INTERVAL '10' SECOND), COUNT(*) FROM t GROUP BY k, TUMBLE(ts, INTERVAL '10' SECOND)",
    "SELECT k FROM t UNION SELECT k FROM u",
    "SELECT k, s FROM t INTERSECT SELECT k, s FROM u",
    "SELECT k, s FROM t EXCEPT ALL SELECT k, s FROM u",
    "SELECT t.id, e FROM t CROSS JOIN UNNEST(ARRAY[t.k, CAST(t.v AS INT)]) AS x (e)",
];

/// A row without its id: k, s, v, d in cents, x in quarters, ts in milliseconds.
type Row = (Option<i32>, Option<u8>, Option<i64>, Option<i32>, Option<i8>, u16);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        option::of(0..4),
        option::of(0..3_u8),
        option::of(-10..10_i64),
        option::of(-500..500),
        option::of(-8..8_i8),
        0..60_000_u16,
    );
    vec(row, 0..25)
}

fn json(rows: &[Row]) -> String {
    let mut text = String::new();
    for (id, (k, s, v, d, x, ts)) in rows.iter().enumerate() {
        let number = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
        let s = number(s.map(|s| format!("\"{}\"", char::from(b'a' + s))));
        let k = number(k.map(|k| k.to_string()));
        let v = number(v.map(|v| v.to_string()));
        let d = number(d.map(|cents| format!("\"{}\"", f64::from(cents) / 100.0)));
        let x = number(x.map(|quarters| (f64::from(quarters) / 4.0).to_string()));
        let ts = format!("2024-05-01 10:00:{:02}.{:03}", ts / 1000, ts % 1000);
        writeln!(
            text,
            "{{\"id\": {id}, \"k\": {k}, \"s\": {s}, \"v\": {v}, \"d\": {d}, \"x\": {x}, \"ts\": \"{ts}\"}}"
        )
        .unwrap();
    }
    text
}

/// How often each row is left.
#[derive(Default)]
struct Left {
    rows: Mutex<BTreeMap<String, i64>>,
    has_changes: Mutex<bool>,
}

impl Collector for Left {
    fn collect(&self, batch: &StreamBatch) -> Result<(), ConnectorError> {
        let options = FormatOptions::default().with_null("NULL");
        let columns: Vec<ArrayFormatter<'_>> = batch
            .rows
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        let mut rows = self.rows.lock().unwrap();
        for row in 0..batch.rows.num_rows() {
            let values: Vec<String> = columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect();
            let kind = batch.kinds.as_ref().map_or(0, |kinds| kinds.value(row));
            let added = kind == RowKind::Insert as i8 || kind == RowKind::UpdateAfter as i8;
            *self.has_changes.lock().unwrap() |= kind != RowKind::Insert as i8;
            *rows.entry(values.join(" | ")).or_default() += if added { 1 } else { -1 };
        }
        Ok(())
    }
}

async fn left(folder: &Path, query: &str, mode: &str, parallelism: u32) -> BTreeMap<String, i64> {
    let variables = BTreeMap::from([("folder".to_owned(), folder.display().to_string())]);
    let text = format!(
        "SET 'execution.runtime-mode' = '{mode}';\nSET 'parallelism.default' = '{parallelism}';\n{TABLES}{query};\n"
    );
    let script = Script::parse(&text, &variables).unwrap();
    let mut session = Session::new(Configuration::default());
    let left = Arc::new(Left::default());
    for parsed in &script.statements {
        let outcome = session.execute(parsed, &TableConnectors);
        let outcome = outcome.unwrap_or_else(|error| panic!("{query}: {mode}: {}", error.render()));
        if let Outcome::Job(job) = outcome {
            let env = Arc::new(session.env().unwrap());
            let collector = Arc::clone(&left) as Arc<dyn Collector>;
            let program =
                job_program(&job.plan, &job.name, &job.configuration, &env, Some(collector)).unwrap();
            let run = LocalRun::new(program, &job.configuration).await.unwrap();
            let done = run.run(std::future::pending()).await;
            done.unwrap_or_else(|error| panic!("{query}: {mode}: {error}"));
        }
    }
    if mode == "batch" {
        assert!(
            !*left.has_changes.lock().unwrap(),
            "{query}: a batch gives changes"
        );
    }
    let mut rows = std::mem::take(&mut *left.rows.lock().unwrap());
    rows.retain(|_, count| *count != 0);
    rows
}

#[test]
fn a_streams_final_rows_are_the_batchs() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(CASES, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(t in rows(), u in rows(), parallelism in 1..3_u32)| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("t.json"), json(&t)).unwrap();
        fs::write(folder.path().join("u.json"), json(&u)).unwrap();
        for query in QUERIES {
            let stream = runtime.block_on(left(folder.path(), query, "streaming", 1));
            let batch = runtime.block_on(left(folder.path(), query, "batch", parallelism));
            prop_assert_eq!(stream, batch, "{}", query);
        }
    });
}
