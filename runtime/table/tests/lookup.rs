//! Lookup joins with tables of files, from SQL to rows. What is expected was worked out by hand: Flink's `filesystem` can't be looked up.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::util::display::{ArrayFormatter, FormatOptions};
use thalweg_connectors::ConnectorError;
use thalweg_connectors::table::TableConnectors;
use thalweg_sql::script::Script;
use thalweg_sql::session::{Outcome, Session};
use thalweg_table::{Collector, LocalRun, job_program};
use thalweg_types::StreamBatch;
use thalweg_types::config::Configuration;
use thalweg_types::element::RowKind;

const DIM: &str = "customer STRING, city STRING, score BIGINT";

const TABLES: &str = "
CREATE TABLE orders (id INT, customer STRING, amount BIGINT, pt AS PROCTIME())
  WITH ('connector' = 'filesystem', 'path' = '${folder}/orders', 'format' = 'json');
CREATE TABLE dim (${dim}) WITH ('connector' = 'filesystem', 'path' = '${folder}/dim', 'format' = 'csv');
";

const ORDERS: &str = r#"{"id": 1, "customer": "ann", "amount": 10}
{"id": 2, "customer": "bob", "amount": 20}
{"id": 3, "customer": "ann", "amount": 30}
{"id": 4, "customer": null, "amount": 40}
{"id": 5, "customer": "cid", "amount": 50}
"#;

/// Two files; a customer with two rows, one that nobody is, and one without a name.
const DIM_FILES: [&str; 2] = [
    "ann,Ulm,5\nbob,Bonn,70\n",
    "ann,Kiel,25\nzoe,Trier,1\n,Nowhere,3\n",
];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["orders", "dim"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("orders/1.json"), ORDERS).unwrap();
    for (number, rows) in DIM_FILES.iter().enumerate() {
        fs::write(folder.path().join(format!("dim/{number}.csv")), rows).unwrap();
    }
    folder
}

/// Rows with their kinds, in order of their texts.
#[derive(Default)]
struct Rows(Mutex<Vec<String>>);

impl Collector for Rows {
    fn collect(&self, batch: &StreamBatch) -> Result<(), ConnectorError> {
        let options = FormatOptions::default().with_null("NULL");
        let columns = batch.rows.columns().iter();
        let columns: Vec<ArrayFormatter<'_>> = columns
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.rows.num_rows() {
            let values: Vec<String> = columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect();
            let kind = batch.kinds.as_ref().map_or(0, |kinds| kinds.value(row));
            let sign = match kind {
                kind if kind == RowKind::UpdateBefore as i8 => "-U ",
                kind if kind == RowKind::UpdateAfter as i8 => "+U ",
                _ => "",
            };
            self.0
                .lock()
                .unwrap()
                .push(format!("{sign}{}", values.join(" | ")));
        }
        Ok(())
    }
}

/// What a script's SELECTs give, sorted, and the texts of EXPLAIN; or how it fails.
async fn run(folder: &Path, script: &str) -> Result<Vec<String>, String> {
    let variables = [
        ("folder".to_owned(), folder.display().to_string()),
        ("dim".to_owned(), DIM.to_owned()),
    ];
    let text = format!("{TABLES}{script};\n");
    let script = Script::parse(&text, &BTreeMap::from(variables)).unwrap();
    let mut session = Session::new(Configuration::default());
    let (rows, mut texts) = (Arc::new(Rows::default()), Vec::new());
    for parsed in &script.statements {
        let outcome = session.execute(parsed, &TableConnectors);
        let job = match outcome.map_err(|error| error.message)? {
            Outcome::Job(job) => job,
            Outcome::Text(text) => {
                texts.push(text);
                continue;
            }
            _ => continue,
        };
        let env = Arc::new(session.env().unwrap());
        let collector = Arc::clone(&rows) as Arc<dyn Collector>;
        let program = job_program(&job.plan, &job.name, &job.configuration, &env, Some(collector));
        let run = LocalRun::new(program.map_err(|error| error.to_string())?, &job.configuration);
        let run = run.await.map_err(|error| error.to_string())?;
        run.run(std::future::pending())
            .await
            .map_err(|error| error.to_string())?;
    }
    let mut rows = std::mem::take(&mut *rows.0.lock().unwrap());
    rows.sort();
    Ok([rows, texts].concat())
}

fn ran(script: &str) -> Vec<String> {
    let folder = folder();
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(run(folder.path(), script))
        .unwrap_or_else(|error| panic!("{script}: {error}"))
}

fn refused(script: &str) -> String {
    let folder = folder();
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(run(folder.path(), script))
        .unwrap_err()
}

const INNER: &str = "SELECT o.id, o.customer, d.city, d.score FROM orders o JOIN dim FOR SYSTEM_TIME AS OF o.pt AS d ON o.customer = d.customer";

#[test]
fn an_inner_join_gives_each_row_all_rows_of_its_key_at_any_parallelism() {
    let expected = [
        "1 | ann | Kiel | 25",
        "1 | ann | Ulm | 5",
        "2 | bob | Bonn | 70",
        "3 | ann | Kiel | 25",
        "3 | ann | Ulm | 5",
    ];
    assert_eq!(ran(INNER), expected);
    assert_eq!(
        ran(&format!("SET 'parallelism.default' = '3'; {INNER}")),
        expected
    );
}

#[test]
fn a_left_join_keeps_rows_without_a_partner_and_conditions_are_part_of_on() {
    let query = "SELECT o.id, d.city FROM orders o LEFT JOIN dim FOR SYSTEM_TIME AS OF o.pt AS d
                 ON o.customer = d.customer AND d.score > o.amount AND d.city <> 'Bonn'";
    let expected = ["1 | Kiel", "2 | NULL", "3 | NULL", "4 | NULL", "5 | NULL"];
    assert_eq!(ran(query), expected);
}

#[test]
fn keys_may_be_expressions_of_the_left_side_and_columns_may_be_computed() {
    let query = "CREATE TABLE named (customer STRING, city STRING, score BIGINT, shout AS UPPER(city), `file.name` STRING NOT NULL METADATA)
                   WITH ('connector' = 'filesystem', 'path' = '${folder}/dim', 'format' = 'csv');
                 SELECT o.id, d.shout, d.`file.name` FROM orders o JOIN named FOR SYSTEM_TIME AS OF o.pt AS d
                 ON LOWER(o.customer || '') = d.customer WHERE d.score < 50 AND o.id < 3";
    assert_eq!(ran(query), ["1 | KIEL | 1.csv", "1 | ULM | 0.csv"]);
}

#[test]
fn changes_of_the_left_side_go_on_with_what_they_find() {
    let query = r#"CREATE TABLE changes (customer STRING, n BIGINT, pt AS PROCTIME()) WITH ('connector' = 'thalweg-values',
                     'changelog-mode' = 'I,UB,UA,D', 'data' = '{"op": "+I", "customer": "ann", "n": 1}
                     {"op": "-U", "customer": "ann", "n": 1}
                     {"op": "+U", "customer": "ann", "n": 2}
                     {"op": "+I", "customer": "cid", "n": 1}');
                   SELECT c.customer, c.n, d.city FROM changes c
                   LEFT JOIN dim FOR SYSTEM_TIME AS OF c.pt AS d ON c.customer = d.customer AND d.score <> 25"#;
    let expected = [
        "+U ann | 2 | Ulm",
        "-U ann | 1 | Ulm",
        "ann | 1 | Ulm",
        "cid | 1 | NULL",
    ];
    assert_eq!(ran(query), expected);
}

#[test]
fn tables_of_every_format_and_of_partitions_can_be_looked_up() {
    for format in ["json", "parquet", "avro"] {
        let script = format!(
            "SET 'table.dml-sync' = 'true';
             CREATE TABLE copy ({DIM}) PARTITIONED BY (city) WITH ('connector' = 'filesystem', 'path' = '${{folder}}/copy', 'format' = '{format}');
             INSERT INTO copy SELECT customer, city, score FROM dim;
             {}",
            INNER.replace("JOIN dim", "JOIN copy")
        );
        let expected = [
            "1 | ann | Kiel | 25",
            "1 | ann | Ulm | 5",
            "2 | bob | Bonn | 70",
            "3 | ann | Kiel | 25",
            "3 | ann | Ulm | 5",
        ];
        assert_eq!(ran(&script), expected, "{format}");
    }
}

#[test]
fn explain_shows_it_as_flink_does() {
    let query = "EXPLAIN SELECT o.id, d.city FROM orders o LEFT JOIN dim FOR SYSTEM_TIME AS OF o.pt AS d
                 ON o.customer = d.customer AND d.score > 3 AND o.amount > d.score";
    let text = ran(query).concat();
    let expected = "LookupJoin(table=[default_catalog.default_database.dim], joinType=[LeftOuterJoin], lookup=[customer=customer], \
                    where=[(score > 3)], joinCondition=[(amount > score)], select=[";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn what_cannot_be_looked_up_is_refused() {
    let without_key =
        "SELECT o.id FROM orders o JOIN dim FOR SYSTEM_TIME AS OF o.pt AS d ON o.amount > d.score";
    assert_eq!(
        refused(without_key),
        "Temporal table join requires an equality condition on fields of table [default_catalog.default_database.dim]."
    );
    let hinted =
        |options: &str| refused(&INNER.replace("JOIN dim", &format!("JOIN dim /*+ OPTIONS({options}) */")));
    assert!(
        hinted("'source.monitor-interval' = '1 s'")
            .contains("Processing-time temporal join is not supported yet.")
    );
    assert!(hinted("'lookup.cache' = 'NONE'").contains("'lookup.cache' of files is 'FULL'"));
    assert!(hinted("'lookup.cache' = 'PARTIAL'").contains("'lookup.cache' of files is 'FULL'"));
    assert!(
        hinted("'lookup.partial-cache.max-rows' = '5'")
            .contains("Unsupported options found for 'filesystem'")
    );
    let batch = refused(&format!("SET 'execution.runtime-mode' = 'batch'; {INNER}"));
    assert!(batch.contains("is not supported in batch mode"), "{batch}");
}

#[test]
fn a_table_that_is_too_large_or_broken_fails_the_job_by_name() {
    let hinted =
        |options: &str| refused(&INNER.replace("JOIN dim", &format!("JOIN dim /*+ OPTIONS({options}) */")));
    let too_large = hinted("'lookup.full-cache.max-size' = '100 b'");
    assert!(
        too_large.contains("default_catalog.default_database.dim"),
        "{too_large}"
    );
    assert!(too_large.contains("more than 100 bytes"), "{too_large}");
    let missing = hinted("'path' = '/nowhere/at/all'");
    assert!(missing.contains("/nowhere/at/all"), "{missing}");
}
