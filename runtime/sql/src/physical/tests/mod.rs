//! Plans of hand-made relations, over tables of made-up connectors: what EXPLAIN CHANGELOG_MODE shows of them.

mod aggregates;
mod changelogs;
mod consistency;
mod joins;
mod ranks;
mod scans;
mod windowing;

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_plan::connector::{
    CatalogTable, ColumnKind, ConnectorProblem, Connectors, ObjectPath, SinkAbilities, SourceAbilities,
    TableColumn, TableSchema, Watermark,
};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{JoinKind, SortKey};
use thalweg_plan::{ChangelogMode, DataType, Expr, Field, Literal, NodeSpec, Plan, Schema, TypeRoot};
use thalweg_types::config::Configuration;

use super::explain::{ExplainDetails, tree};
use super::expr::boolean;
use super::{plan, rewrite};
use crate::logical::{Aggregation, BoundStatement, OverCall, OverFrame, Rel, RelKind};
use crate::{SqlError, SqlErrorKind};

/// Connectors by what their tables' changes are: "append", "retract", "upsert" for both ways, "lookup"; "splits" is "append" with watermarks by
/// split and the metadata "time".
struct Made;

impl Connectors for Made {
    fn source(&self, table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
        Ok(SourceAbilities {
            changelog: mode(table)?,
            bounded: false,
            metadata: metadata(table),
            projection: true,
            nested_projection: true,
            filters: true,
            limit: true,
            watermark: table.options["connector"] == "splits",
            lookup: table.options["connector"] == "lookup",
        })
    }

    fn sink(&self, table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem> {
        Ok(SinkAbilities {
            changelog: mode(table)?,
            metadata: metadata(table),
            overwrite: false,
            parallelism: None,
        })
    }

    fn names(&self) -> Vec<&'static str> {
        vec!["append", "lookup", "retract", "upsert"]
    }
}

fn metadata(table: &CatalogTable) -> Vec<(String, DataType)> {
    let time = DataType::nullable(TypeRoot::TimestampLtz(3, TimeKind::Regular));
    match table.options["connector"].as_str() {
        "splits" => vec![("time".to_owned(), time)],
        _ => Vec::new(),
    }
}

fn mode(table: &CatalogTable) -> Result<ChangelogMode, ConnectorProblem> {
    match table.options["connector"].as_str() {
        "append" | "lookup" | "splits" => Ok(ChangelogMode::INSERT_ONLY),
        "retract" => Ok(ChangelogMode::ALL),
        "upsert" => Ok(ChangelogMode {
            key_only_deletes: true,
            ..ChangelogMode::UPSERT
        }),
        other => Err(ConnectorProblem {
            option: Some("connector".to_owned()),
            message: format!("Cannot discover a connector using option: 'connector'='{other}'"),
        }),
    }
}

fn int() -> DataType {
    DataType::nullable(TypeRoot::Int)
}

fn bigint() -> DataType {
    DataType::nullable(TypeRoot::BigInt)
}

fn rowtime() -> DataType {
    DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Rowtime))
}

fn timestamp() -> DataType {
    rowtime().materialized()
}

fn literal(value: i64) -> Expr {
    Expr::literal(Literal::Int(value), bigint().with_nullable(false))
}

fn seconds(value: i64) -> Expr {
    let interval = DataType::not_null(TypeRoot::IntervalDaySecond);
    Expr::literal(Literal::Int(value * 1000), interval)
}

fn call(function: &str, args: Vec<Expr>) -> Expr {
    Expr::call(function, args, boolean(true))
}

/// A table; a column of type ROWTIME has a watermark 3 s behind it.
fn table(name: &str, connector: &str, columns: &[(&str, DataType)], key: &[&str]) -> Arc<CatalogTable> {
    let watermark = columns
        .iter()
        .position(|(_, it)| it.time_kind() == TimeKind::Rowtime);
    let watermark = watermark.map(|column| Watermark {
        column,
        expression: Expr::call(
            "-",
            vec![Expr::column(column, rowtime()), seconds(3)],
            timestamp(),
        ),
    });
    let columns = columns.iter().map(|(name, data_type)| TableColumn {
        name: (*name).to_owned(),
        data_type: data_type.clone(),
        kind: ColumnKind::Physical,
        comment: None,
    });
    let key: Vec<String> = key.iter().map(|&name| name.to_owned()).collect();
    Arc::new(CatalogTable {
        path: ObjectPath {
            catalog: "c".to_owned(),
            database: "d".to_owned(),
            name: name.to_owned(),
        },
        schema: TableSchema {
            columns: columns.collect(),
            watermark,
            primary_key: (!key.is_empty()).then_some(key),
        },
        options: BTreeMap::from([("connector".to_owned(), connector.to_owned())]),
        partition_keys: Vec::new(),
        comment: None,
    })
}

fn bids() -> Arc<CatalogTable> {
    let columns = [
        ("auction", int()),
        ("bidder", int()),
        ("price", bigint()),
        ("ts", rowtime()),
    ];
    table("bids", "append", &columns, &[])
}

fn scan(table: &Arc<CatalogTable>) -> Rel {
    let columns = table.schema.columns.iter();
    let fields = columns.map(|column| Field::new(&*column.name, column.data_type.clone()));
    Rel {
        kind: RelKind::Scan(Arc::clone(table)),
        schema: Schema {
            fields: fields.collect(),
        },
        position: None,
    }
}

fn index(rel: &Rel, name: &str) -> usize {
    rel.schema.index_of(name).unwrap()
}

fn col(rel: &Rel, name: &str) -> Expr {
    let column = index(rel, name);
    Expr::column(column, rel.schema.fields[column].data_type.clone())
}

fn select(input: Rel, columns: &[&str]) -> Rel {
    let columns: Vec<usize> = columns.iter().map(|name| index(&input, name)).collect();
    rewrite::project_columns(input, &columns)
}

fn filter(input: Rel, condition: Expr) -> Rel {
    rewrite::filter(input, vec![condition])
}

fn aggregation(function: &str, args: &[usize], data_type: DataType, name: &str) -> Aggregation {
    Aggregation {
        function: function.to_owned(),
        args: args.to_vec(),
        distinct: false,
        filter: None,
        data_type,
        name: name.to_owned(),
        position: None,
    }
}

fn count() -> Aggregation {
    aggregation("COUNT", &[], bigint().with_nullable(false), "n")
}

fn group(input: Rel, keys: &[&str], calls: Vec<Aggregation>) -> Rel {
    let groups: Vec<usize> = keys.iter().map(|name| index(&input, name)).collect();
    let fields = groups.iter().map(|&group| input.schema.fields[group].clone());
    let results = calls
        .iter()
        .map(|call| Field::new(&*call.name, call.data_type.clone()));
    Rel {
        schema: Schema {
            fields: fields.chain(results).collect(),
        },
        position: None,
        kind: RelKind::Aggregate {
            groups,
            sets: Vec::new(),
            grouping_ids: Vec::new(),
            calls,
            window: None,
            ttl_ms: None,
            input: Box::new(input),
        },
    }
}

fn join(left: Rel, right: Rel, kind: JoinKind, on: impl FnOnce(&Rel) -> Expr) -> Rel {
    let schema = rewrite::joined(&left, &right);
    let both = Rel {
        kind: RelKind::Values(Vec::new()),
        schema: schema.clone(),
        position: None,
    };
    let condition = Some(on(&both));
    let schema = match kind {
        JoinKind::Semi | JoinKind::Anti => left.schema.clone(),
        _ => schema,
    };
    Rel {
        schema,
        position: None,
        kind: RelKind::Join {
            left: Box::new(left),
            right: Box::new(right),
            kind,
            condition,
            ttl_ms: [None; 2],
            null_aware: false,
        },
    }
}

fn equal(left: Expr, right: Expr) -> Expr {
    call("=", vec![left, right])
}

/// A query with ROW_NUMBER as "rn" behind its columns.
fn numbered(input: Rel, partition: &[&str], order: &[(&str, bool)]) -> Rel {
    let sort = |(name, descending): &(&str, bool)| SortKey {
        column: index(&input, name),
        descending: *descending,
        nulls_first: !descending,
    };
    let mut schema = input.schema.clone();
    schema
        .fields
        .push(Field::new("rn", bigint().with_nullable(false)));
    Rel {
        schema,
        position: None,
        kind: RelKind::Over {
            partition: partition.iter().map(|name| index(&input, name)).collect(),
            order: order.iter().map(sort).collect(),
            calls: vec![OverCall {
                call: aggregation("ROW_NUMBER", &[], bigint().with_nullable(false), "rn"),
                frame: OverFrame::Rows(None),
            }],
            input: Box::new(input),
        },
    }
}

fn at_most(input: Rel, rank: i64) -> Rel {
    let condition = call("<=", vec![col(&input, "rn"), literal(rank)]);
    filter(input, condition)
}

/// INSERT INTO a table with the query's columns.
fn insert(connector: &str, key: &[&str], query: Rel) -> BoundStatement {
    let columns: Vec<(&str, DataType)> = query
        .schema
        .fields
        .iter()
        .map(|field| (field.name.as_str(), field.data_type.clone().materialized()))
        .collect();
    BoundStatement::Insert {
        table: table("results", connector, &columns, key),
        overwrite: false,
        static_partition: BTreeMap::new(),
        target_columns: None,
        on_conflict: None,
        position: None,
        query,
    }
}

fn planned(statements: &[BoundStatement]) -> Result<Plan, SqlError> {
    planned_with(statements, &[])
}

fn planned_with(statements: &[BoundStatement], options: &[(&str, &str)]) -> Result<Plan, SqlError> {
    let options = options
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let plan = plan(statements, &Made, &Configuration::from_map(options))?;
    consistency::check(&plan);
    Ok(plan)
}

/// EXPLAIN CHANGELOG_MODE of one statement.
fn shown(statement: BoundStatement) -> String {
    let plan = planned(&[statement]).unwrap();
    let details = ExplainDetails { changelog_mode: true };
    tree(&plan, details)
}

/// The names of all operators but sources, Calcs and sinks, from the sources on.
fn kinds(plan: &Plan) -> Vec<&str> {
    let names = plan.nodes.iter().map(|node| node.name.split('(').next().unwrap());
    names
        .filter(|kind| !matches!(*kind, "TableSourceScan" | "WatermarkAssigner" | "Calc" | "Sink"))
        .collect()
}

fn refusal(statement: BoundStatement) -> (SqlErrorKind, String) {
    let error = planned(&[statement]).unwrap_err();
    (error.kind, error.message)
}
