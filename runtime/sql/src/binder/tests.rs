//! Queries and what they are bound to, in `tests/relations.txt`: a query, a line `=>`, then its relation and columns, or its error. With
//! `UPDATE_RELATIONS=1` what comes out is written there, to be read before it is committed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use thalweg_functions::EvaluationEnv;

use super::Binder;
use crate::ast::Statement;
use crate::catalog::Catalog;
use crate::error::Position;
use crate::parser::{parse_query, parse_statements};

const TABLES: &str = "
CREATE TABLE bids (auction INT, bidder INT, price BIGINT, channel STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND) WITH ('connector' = 'x');
CREATE TABLE orders (id BIGINT NOT NULL, customer STRING, amount DECIMAL(10, 2), at_ms TIMESTAMP_LTZ(3),
  r ROW<x INT NOT NULL, y STRING>, tags ARRAY<STRING>, pt AS PROCTIME(),
  WATERMARK FOR at_ms AS at_ms, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'x');
CREATE VIEW cheap (a, p) AS SELECT auction, price FROM bids WHERE price < 10;
";

fn env() -> EvaluationEnv {
    EvaluationEnv {
        time_zone: "UTC".to_owned(),
        clock: Arc::new(|| 0),
        statement_time_ms: 0,
        is_batch: false,
        functions: Arc::default(),
    }
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for parsed in parse_statements(TABLES).unwrap() {
        match &parsed.statement {
            Statement::CreateTable(create) => catalog.create_table(create, &env()).unwrap(),
            Statement::CreateView(create) => catalog.create_view(create, &env()).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    catalog
}

/// The relation and its columns, or the error.
fn bound(catalog: &Catalog, text: &str) -> String {
    let query = match parse_query(text, Position::START) {
        Ok(query) => query,
        Err(error) => return format!("{error}\n"),
    };
    match Binder::new(catalog, env(), true).query(&query, None) {
        Ok(rel) => {
            let fields = rel.schema.fields.iter();
            let fields: Vec<String> = fields
                .map(|field| format!("{} {}", field.name, field.data_type))
                .collect();
            format!("{rel}: {}\n", fields.join(", "))
        }
        Err(error) => format!("{error}\n"),
    }
}

#[test]
fn queries_are_bound_to_relations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/binder/tests/relations.txt");
    let text = fs::read_to_string(&path).unwrap();
    let catalog = catalog();
    let (mut found, mut differences) = (Vec::new(), Vec::new());
    for case in text.split("\n\n").filter(|case| !case.trim().is_empty()) {
        let (query, expected) = case.split_once("\n=>").unwrap_or((case, ""));
        let query = query.trim();
        let (title, sql) = query.split_once('\n').unwrap();
        let result = bound(&catalog, sql);
        if result.trim_end() != expected.trim() {
            differences.push(format!("{title}\n{sql}\n{result}"));
        }
        found.push(format!("{query}\n=>\n{result}"));
    }
    if std::env::var_os("UPDATE_RELATIONS").is_some() {
        fs::write(&path, found.join("\n")).unwrap();
        return;
    }
    assert!(found.len() > 50, "{} queries", found.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn long_and_deep_expressions_are_bound_or_refused() {
    let catalog = catalog();
    let sum = format!("SELECT {}price FROM bids", "price + ".repeat(250));
    let parentheses = format!("SELECT {}price{} FROM bids", "(".repeat(60), ")".repeat(60));
    let any = format!(
        "SELECT price FROM bids WHERE {}price = 1",
        "price = 2 OR ".repeat(5_000)
    );
    for text in [sum, parentheses, any] {
        let rel = crate::stack::with_stack(|| bound(&catalog, &text));
        assert!(rel.starts_with("Project"), "{rel:.200}");
    }
    let text = format!(
        "SELECT * FROM {}bids{}",
        "(SELECT * FROM ".repeat(200),
        ")".repeat(200)
    );
    let refused = crate::stack::with_stack(|| bound(&catalog, &text));
    assert!(refused.contains("nested too deeply"), "{refused:.200}");
}
