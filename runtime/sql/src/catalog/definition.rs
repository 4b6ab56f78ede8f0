//! Tables as they are declared: what LIKE copies, ALTER changes and SHOW CREATE writes. The table that plans read is resolved from it.

use std::collections::{BTreeMap, BTreeSet};

use sqlparser::ast::Ident;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::connector::{CatalogTable, ColumnKind, TableColumn, TableSchema, Watermark};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, Schema, TypeRoot};

use super::{Catalog, path};
use crate::ast::{ColumnDef, ColumnDefKind, PrimaryKeyDef, WatermarkDef};
use crate::binder::Binder;
use crate::binder::scope::Scope;
use crate::error::{Position, SqlError};

/// A table's declaration, what it took of another one included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Definition {
    /// In order.
    pub(crate) columns: Vec<ColumnDef>,
    pub(crate) watermark: Option<WatermarkDef>,
    pub(crate) primary_key: Option<PrimaryKeyDef>,
    pub(crate) partition_keys: Vec<Ident>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) comment: Option<String>,
}

impl Definition {
    /// Where a column is.
    pub(crate) fn place_of(&self, name: &Ident) -> Option<usize> {
        self.columns
            .iter()
            .position(|column| column.name.value == name.value)
    }

    /// An error that names the nearest column.
    pub(crate) fn unknown_column(&self, name: &Ident) -> SqlError {
        let known = self.columns.iter().map(|column| column.name.value.as_str());
        SqlError::unknown("column", &name.value, known, Position::of_span(name.span))
    }

    /// Columns of the key are never null.
    pub(crate) fn key_not_null(&mut self) {
        let Some(key) = &self.primary_key else { return };
        for column in &mut self.columns {
            if let ColumnDefKind::Physical(written) = &mut column.kind
                && key.columns.iter().any(|name| name.value == column.name.value)
            {
                written.data_type.nullable = false;
            }
        }
    }
}

impl Catalog {
    /// The table with all names and types resolved.
    pub(crate) fn resolve(
        &self,
        name: &str,
        definition: &Definition,
        env: &EvaluationEnv,
    ) -> Result<CatalogTable, SqlError> {
        let names = definition.columns.iter().map(|column| column.name.value.as_str());
        if let Some(twice) = repeated(names) {
            let place = definition
                .columns
                .iter()
                .rev()
                .find(|column| column.name.value == twice);
            let position = place.and_then(|column| Position::of_span(column.name.span));
            let message = format!("A column named '{twice}' already exists in the table.");
            return Err(SqlError::semantic(message, position));
        }
        let mut schema = TableSchema {
            columns: definition.columns.iter().map(column).collect(),
            watermark: None,
            primary_key: None,
        };
        self.compute(&mut schema.columns, &definition.columns, env)?;
        if let Some(watermark) = &definition.watermark {
            schema.watermark = Some(self.watermark(&mut schema.columns, watermark, env)?);
        }
        if let Some(key) = &definition.primary_key {
            schema.primary_key = Some(primary_key(definition, &mut schema.columns, key)?);
        }
        if !schema
            .columns
            .iter()
            .any(|column| !matches!(column.kind, ColumnKind::Computed(_)))
        {
            let position = definition
                .columns
                .first()
                .and_then(|column| Position::of_span(column.name.span));
            let message = format!("Table '{name}' needs a column that is not computed");
            return Err(SqlError::semantic(message, position));
        }
        Ok(CatalogTable {
            path: path(name),
            partition_keys: partitions(&schema.columns, &definition.partition_keys)?,
            schema,
            options: definition.options.clone(),
            comment: definition.comment.clone(),
        })
    }

    /// Computed columns see the others, not one another.
    fn compute(
        &self,
        columns: &mut [TableColumn],
        definitions: &[ColumnDef],
        env: &EvaluationEnv,
    ) -> Result<(), SqlError> {
        let is_computed = |place: usize| matches!(definitions[place].kind, ColumnDefKind::Computed(_));
        let mut scope = scope_of(columns);
        for table in &mut scope.tables {
            table.columns.retain(|column| !is_computed(column.index));
        }
        let binder = Binder::new(self, env.clone(), false);
        for (column, definition) in columns.iter_mut().zip(definitions) {
            let ColumnDefKind::Computed(written) = &definition.kind else {
                continue;
            };
            let expr = binder.plain(&scope, &written.expr, "a computed column")?;
            if expr.data_type.root == TypeRoot::Null {
                let message = format!("Column '{}' has no type: cast NULL to one", definition.name.value);
                return Err(SqlError::of_type(
                    message,
                    Position::of_span(definition.name.span),
                ));
            }
            column.data_type = expr.data_type.clone();
            column.kind = ColumnKind::Computed(expr);
        }
        Ok(())
    }

    fn watermark(
        &self,
        columns: &mut [TableColumn],
        watermark: &WatermarkDef,
        env: &EvaluationEnv,
    ) -> Result<Watermark, SqlError> {
        let [name] = watermark.column.as_slice() else {
            let message = "WATERMARK FOR a field of a row is not supported: compute a column of it";
            return Err(SqlError::unsupported(message, watermark.position));
        };
        let position = Position::of_span(name.span);
        let Some(place) = columns.iter().position(|column| column.name == name.value) else {
            let known = columns.iter().map(|column| column.name.as_str());
            return Err(SqlError::unknown("column", &name.value, known, position));
        };
        let rowtime = match &columns[place].data_type.root {
            TypeRoot::Timestamp(precision @ 0..=3, TimeKind::Regular) => {
                TypeRoot::Timestamp(*precision, TimeKind::Rowtime)
            }
            TypeRoot::TimestampLtz(precision @ 0..=3, TimeKind::Regular) => {
                TypeRoot::TimestampLtz(*precision, TimeKind::Rowtime)
            }
            _ => {
                let message = format!(
                    "Invalid data type of time field for watermark definition. The field must be of type TIMESTAMP(p) or \
                     TIMESTAMP_LTZ(p), the supported precision 'p' is from 0 to 3, but the time field type is {}",
                    columns[place].data_type
                );
                return Err(SqlError::of_type(message, position));
            }
        };
        let binder = Binder::new(self, env.clone(), false);
        let expression = binder.plain(&scope_of(columns), &watermark.expression.expr, "WATERMARK")?;
        let fits = matches!(
            (&expression.data_type.root, &rowtime),
            (TypeRoot::Timestamp(0..=3, _), TypeRoot::Timestamp(..))
                | (TypeRoot::TimestampLtz(0..=3, _), TypeRoot::TimestampLtz(..))
        );
        if !fits {
            let message = format!(
                "Invalid data type of expression for watermark definition. The field must be of type TIMESTAMP(p) or TIMESTAMP_LTZ(p), \
                 the supported precision 'p' is from 0 to 3, but the watermark expression type is {}",
                expression.data_type
            );
            let position = crate::binder::position_of(&watermark.expression.expr);
            return Err(SqlError::of_type(message, position));
        }
        columns[place].data_type.root = rowtime;
        Ok(Watermark {
            column: place,
            expression,
        })
    }
}

fn column(definition: &ColumnDef) -> TableColumn {
    let (data_type, kind) = match &definition.kind {
        // A computed column's type and expression come when all others are there.
        ColumnDefKind::Computed(_) => (DataType::nullable(TypeRoot::Null), ColumnKind::Physical),
        ColumnDefKind::Physical(written) => (written.data_type.clone(), ColumnKind::Physical),
        ColumnDefKind::Metadata {
            data_type,
            key,
            is_virtual,
        } => {
            let key = key
                .as_ref()
                .map_or_else(|| definition.name.value.clone(), |key| key.value.clone());
            let kind = ColumnKind::Metadata {
                key,
                is_virtual: *is_virtual,
            };
            (data_type.data_type.clone(), kind)
        }
    };
    TableColumn {
        name: definition.name.value.clone(),
        data_type,
        kind,
        comment: definition.comment.as_ref().map(|comment| comment.value.clone()),
    }
}

fn scope_of(columns: &[TableColumn]) -> Scope {
    let fields = columns
        .iter()
        .map(|column| Field::new(column.name.clone(), column.data_type.clone()));
    let schema = Schema {
        fields: fields.collect(),
    };
    Scope::of_table(None, Vec::new(), &schema)
}

fn primary_key(
    definition: &Definition,
    columns: &mut [TableColumn],
    key: &PrimaryKeyDef,
) -> Result<Vec<String>, SqlError> {
    for name in &key.columns {
        let place = definition.place_of(name);
        let column = &mut columns[place.ok_or_else(|| definition.unknown_column(name))?];
        if column.kind != ColumnKind::Physical {
            let message = format!(
                "Could not create a PRIMARY KEY with column '{}': it is no physical column",
                name.value
            );
            return Err(SqlError::semantic(message, Position::of_span(name.span)));
        }
        column.data_type.nullable = false;
    }
    match repeated(key.columns.iter().map(|name| name.value.as_str())) {
        Some(twice) => {
            let message = format!("PRIMARY KEY names '{twice}' twice");
            Err(SqlError::semantic(message, key.position))
        }
        None => Ok(key.columns.iter().map(|name| name.value.clone()).collect()),
    }
}

fn partitions(columns: &[TableColumn], names: &[Ident]) -> Result<Vec<String>, SqlError> {
    let physical = || {
        let physical = columns
            .iter()
            .filter(|column| column.kind == ColumnKind::Physical);
        physical.map(|column| column.name.as_str())
    };
    let keys = names
        .iter()
        .map(|name| match physical().any(|known| known == name.value) {
            true => Ok(name.value.clone()),
            false => {
                let position = Position::of_span(name.span);
                Err(SqlError::unknown(
                    "partition column",
                    &name.value,
                    physical(),
                    position,
                ))
            }
        });
    keys.collect()
}

/// The first name that was there before.
pub(super) fn repeated<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}
