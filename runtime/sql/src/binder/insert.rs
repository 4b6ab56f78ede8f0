//! INSERT: a query's columns become those of a table, by position or by the names that the script gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlparser::ast::Ident;
use thalweg_plan::connector::{CatalogTable, ColumnKind, ObjectPath, TableColumn, TableSchema};
use thalweg_plan::{DataType, Expr, ExprKind, Literal, Schema};

use super::scope::Scope;
use super::select::projected;
use super::{Binder, cast_to, literal};
use crate::ast::Insert;
use crate::catalog::{Object, with_hints};
use crate::error::{Position, SqlError};
use crate::logical::{BoundStatement, Rel};
use sqlparser::ast::Query;

/// The connector of the sink that hands a query's rows to whoever asked.
const COLLECT: &str = "thalweg-collect";

impl Binder<'_> {
    /// INSERT INTO.
    pub(crate) fn insert(&self, insert: &Insert) -> Result<BoundStatement, SqlError> {
        let parts: Vec<Ident> = insert
            .table
            .0
            .iter()
            .filter_map(|part| part.as_ident().cloned())
            .collect();
        let position = parts.first().and_then(|part| Position::of_span(part.span));
        let path = self.catalog().path_of(&parts)?;
        let Object::Table(table) = self.catalog().find(&path, position)? else {
            return Err(SqlError::semantic(
                format!("{path} is a view: rows can be written into tables only"),
                position,
            ));
        };
        let table = with_hints(&table.resolved, &insert.hints, self.allows_hints())?;
        let query = self.query(&insert.query, None)?;
        let static_partition = self.static_partition(&table, insert)?;
        let targets = targets(&table, insert, &static_partition)?;
        let query = assigned(query, &table, &targets, &static_partition, insert.position)?;
        Ok(BoundStatement::Insert {
            target_columns: (!insert.columns.is_empty()).then(|| targets.clone()),
            static_partition: static_partition
                .into_iter()
                .map(|(name, (text, _))| (name, text))
                .collect(),
            overwrite: insert.overwrite,
            on_conflict: insert.on_conflict,
            position: Some(insert.position),
            query,
            table,
        })
    }

    /// SELECT without INSERT.
    pub(crate) fn console(&self, query: &Query) -> Result<BoundStatement, SqlError> {
        let query = self.query(query, None)?;
        let columns = query.schema.fields.iter().map(|field| TableColumn {
            name: field.name.clone(),
            data_type: field.data_type.clone().materialized(),
            kind: ColumnKind::Physical,
            comment: None,
        });
        let table = CatalogTable {
            path: ObjectPath {
                catalog: "default_catalog".to_owned(),
                database: "default_database".to_owned(),
                name: "collect".to_owned(),
            },
            schema: TableSchema {
                columns: columns.collect(),
                ..TableSchema::default()
            },
            options: BTreeMap::from([("connector".to_owned(), COLLECT.to_owned())]),
            partition_keys: Vec::new(),
            comment: None,
        };
        Ok(BoundStatement::Select {
            query,
            table: Arc::new(table),
        })
    }

    /// PARTITION (k = constant): by name, its text and its value.
    fn static_partition(
        &self,
        table: &CatalogTable,
        insert: &Insert,
    ) -> Result<BTreeMap<String, (String, Expr)>, SqlError> {
        let mut partition = BTreeMap::new();
        for (name, expr) in &insert.partition {
            let position = Position::of_span(name.span);
            if !table.partition_keys.contains(&name.value) {
                let known = table.partition_keys.iter().map(String::as_str);
                return Err(SqlError::unknown(
                    "partition column",
                    &name.value,
                    known,
                    position,
                ));
            }
            let value = self.plain(&Scope::default(), expr, "PARTITION")?;
            let text = match &value.kind {
                ExprKind::Literal(Literal::String(text)) => text.to_string(),
                ExprKind::Literal(Literal::Null) => {
                    return Err(SqlError::of_type("A partition can't be NULL", position));
                }
                ExprKind::Literal(_) => expr.to_string(),
                _ => return Err(SqlError::of_type("PARTITION needs constants", position)),
            };
            partition.insert(name.value.clone(), (text, value));
        }
        Ok(partition)
    }
}

/// Columns of a table that can be written, as positions in its schema.
fn persisted(table: &CatalogTable) -> Vec<usize> {
    let columns = table.schema.columns.iter().enumerate();
    let kept = columns.filter(|(_, column)| match &column.kind {
        ColumnKind::Physical => true,
        ColumnKind::Metadata { is_virtual, .. } => !is_virtual,
        ColumnKind::Computed(_) => false,
    });
    kept.map(|(index, _)| index).collect()
}

/// Which column each of the query's is for.
fn targets(
    table: &CatalogTable,
    insert: &Insert,
    partition: &BTreeMap<String, (String, Expr)>,
) -> Result<Vec<usize>, SqlError> {
    let persisted = persisted(table);
    let name_of = |index: &usize| table.schema.columns[*index].name.as_str();
    if insert.columns.is_empty() {
        return Ok(persisted
            .into_iter()
            .filter(|index| !partition.contains_key(name_of(index)))
            .collect());
    }
    let mut targets = Vec::new();
    for name in &insert.columns {
        let position = Position::of_span(name.span);
        let Some(index) = persisted.iter().find(|index| name_of(index) == name.value) else {
            return Err(SqlError::unknown(
                "column",
                &name.value,
                persisted.iter().map(name_of),
                position,
            ));
        };
        if targets.contains(index) {
            return Err(SqlError::semantic(
                format!("Target column '{}' is assigned more than once", name.value),
                position,
            ));
        }
        targets.push(*index);
    }
    Ok(targets)
}

/// The query's columns as the table's: physical ones in order, then metadata.
fn assigned(
    query: Rel,
    table: &CatalogTable,
    targets: &[usize],
    partition: &BTreeMap<String, (String, Expr)>,
    position: Position,
) -> Result<Rel, SqlError> {
    if query.schema.fields.len() != targets.len() {
        return Err(mismatch(
            &query,
            table,
            targets,
            "Different number of columns.",
            position,
        ));
    }
    let (mut exprs, mut names) = (Vec::new(), Vec::new());
    let columns = &table.schema.columns;
    let is_metadata = |index: &usize| matches!(columns[*index].kind, ColumnKind::Metadata { .. });
    let mut order = persisted(table);
    order.sort_by_key(is_metadata);
    for index in order {
        let column = &columns[index];
        let to = column.data_type.clone().materialized();
        let value = match (
            targets.iter().position(|target| *target == index),
            partition.get(&column.name),
        ) {
            (Some(place), _) => Expr::column(place, query.schema.fields[place].data_type.clone()),
            (None, Some((_, value))) => value.clone(),
            (None, None) if to.nullable => literal::null(),
            (None, None) => {
                let message = format!(
                    "Column '{}' has no default value and does not allow NULLs",
                    column.name
                );
                return Err(SqlError::semantic(message, position));
            }
        };
        let nullable = value.data_type.nullable;
        let target: DataType = to.with_nullable(nullable);
        let cast = cast_to(value, &target).map_err(|_| {
            let cause = format!(
                "Incompatible types for sink column '{}' at position {}.",
                column.name,
                exprs.len() + 1
            );
            mismatch(&query, table, targets, &cause, position)
        })?;
        exprs.push(cast);
        names.push(column.name.clone());
    }
    Ok(projected(query, exprs, names, Some(position)))
}

fn mismatch(
    query: &Rel,
    table: &CatalogTable,
    targets: &[usize],
    cause: &str,
    position: Position,
) -> SqlError {
    let columns = targets.iter().map(|target| {
        let column = &table.schema.columns[*target];
        format!("{}: {}", column.name, column.data_type)
    });
    let sink: Vec<String> = columns.collect();
    SqlError::of_type(
        format!(
            "Column types of query result and sink for '{}' do not match.\nCause: {cause}\n\nQuery schema: [{}]\nSink schema:  [{}]",
            table.path,
            shown(&query.schema),
            sink.join(", ")
        ),
        position,
    )
}

fn shown(schema: &Schema) -> String {
    let fields = schema
        .fields
        .iter()
        .map(|field| format!("{}: {}", field.name, field.data_type));
    fields.collect::<Vec<_>>().join(", ")
}
