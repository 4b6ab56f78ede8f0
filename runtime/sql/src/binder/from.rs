//! FROM: tables, views, queries, functions.

use std::sync::Arc;

use sqlparser::ast::{
    self as tree, Ident, Join, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableWithJoins,
};
use thalweg_plan::{Field, Schema};

use super::Binder;
use super::scope::Scope;
use super::window;
use crate::ast::{Hint, table_hints};
use crate::catalog::Object;
use crate::error::{Position, SqlError};
use crate::logical::{Rel, RelKind};

impl Binder<'_> {
    /// All of FROM; without FROM one row without columns.
    pub(crate) fn from(
        &self,
        from: &[TableWithJoins],
        outer: Option<&Scope>,
    ) -> Result<(Rel, Scope), SqlError> {
        let mut joined: Option<(Rel, Scope)> = None;
        for table in from {
            joined = Some(match joined {
                None => self.table_with_joins(table, outer)?,
                Some((left, scope)) => {
                    let first = Join {
                        relation: table.relation.clone(),
                        global: false,
                        join_operator: JoinOperator::CrossJoin(JoinConstraint::None),
                    };
                    let first = self.join(left, scope, &first, outer)?;
                    table
                        .joins
                        .iter()
                        .try_fold(first, |(rel, scope), join| self.join(rel, scope, join, outer))?
                }
            });
        }
        let one_row = || {
            let rel = Rel {
                kind: RelKind::Values(vec![Vec::new()]),
                schema: Schema::default(),
                position: None,
            };
            (rel, Scope::default())
        };
        Ok(joined.unwrap_or_else(one_row))
    }

    fn table_with_joins(
        &self,
        table: &TableWithJoins,
        outer: Option<&Scope>,
    ) -> Result<(Rel, Scope), SqlError> {
        let first = self.factor(&table.relation, outer)?;
        table
            .joins
            .iter()
            .try_fold(first, |(rel, scope), join| self.join(rel, scope, join, outer))
    }

    /// A table that depends on nothing to its left.
    pub(super) fn factor(
        &self,
        factor: &TableFactor,
        outer: Option<&Scope>,
    ) -> Result<(Rel, Scope), SqlError> {
        let position = Position::of(factor);
        match factor {
            TableFactor::Table {
                name,
                alias,
                version: None,
                ..
            } => {
                let parts: Vec<Ident> = name
                    .0
                    .iter()
                    .filter_map(|part| part.as_ident().cloned())
                    .collect();
                let (rel, path) = self.named_table(&parts, &table_hints(factor))?;
                self.aliased(rel, &path, alias.as_ref())
            }
            TableFactor::Table { version: Some(_), .. } => Err(SqlError::semantic(
                "FOR SYSTEM_TIME AS OF needs a join with a table to its left",
                position,
            )),
            TableFactor::Derived { subquery, alias, .. } => {
                let rel = self.query(subquery, outer)?;
                self.aliased(rel, &[], alias.as_ref())
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                self.table_with_joins(table_with_joins, outer)
            }
            TableFactor::Function {
                name, args, alias, ..
            } if is_window(name) => {
                let rel = self.window_function(&upper(name), args, outer, position)?;
                self.aliased(rel, &[], alias.as_ref())
            }
            TableFactor::UNNEST { .. } | TableFactor::Function { .. } => {
                let one_row = Rel {
                    kind: RelKind::Values(vec![Vec::new()]),
                    schema: Schema::default(),
                    position,
                };
                let mut scope = Scope::default();
                scope.outer = outer.map(|scope| Box::new(scope.clone()));
                self.correlated(one_row, scope, factor, false)
            }
            other => Err(SqlError::unsupported(
                format!("{other} is not supported"),
                position,
            )),
        }
    }

    /// A table or view by its name, and its name in parts.
    pub(crate) fn named_table(
        &self,
        parts: &[Ident],
        hints: &[Hint],
    ) -> Result<(Rel, Vec<String>), SqlError> {
        let position = parts.first().and_then(|part| Position::of_span(part.span));
        if let [name] = parts
            && let Some(rel) = self.common_table(&name.value)
        {
            return Ok((rel, vec![name.value.clone()]));
        }
        let path = self.catalog().path_of(parts)?;
        let names = vec![path.catalog.clone(), path.database.clone(), path.name.clone()];
        let rel = match self.catalog().find(&path, position)? {
            Object::Table(table) => {
                let table = self.with_hints(&table.resolved, hints)?;
                let columns = table.schema.columns.iter();
                let fields = columns.map(|column| Field::new(column.name.clone(), column.data_type.clone()));
                Rel {
                    schema: Schema {
                        fields: fields.collect(),
                    },
                    kind: RelKind::Scan(table),
                    position,
                }
            }
            Object::View(view) => {
                if let Some(hint) = hints.first() {
                    return Err(SqlError::semantic("A view takes no OPTIONS", hint.position));
                }
                let mut rel = self.nested(position, || self.view(&view.query))?;
                for (field, name) in rel.schema.fields.iter_mut().zip(&view.columns) {
                    field.name.clone_from(name);
                }
                rel
            }
        };
        Ok((rel, names))
    }

    pub(super) fn aliased(
        &self,
        mut rel: Rel,
        path: &[String],
        alias: Option<&TableAlias>,
    ) -> Result<(Rel, Scope), SqlError> {
        let Some(alias) = alias else {
            let (name, path) = match path.split_last() {
                Some((name, path)) => (Some(name.clone()), path.to_vec()),
                None => (None, Vec::new()),
            };
            let scope = Scope::of_table(name, path, &rel.schema);
            return Ok((rel, scope));
        };
        rename(&mut rel, alias)?;
        let scope = Scope::of_table(Some(alias.name.value.clone()), Vec::new(), &rel.schema);
        Ok((rel, scope))
    }

    /// OPTIONS of a table's hints over the table's own.
    fn with_hints(
        &self,
        table: &Arc<thalweg_plan::connector::CatalogTable>,
        hints: &[Hint],
    ) -> Result<Arc<thalweg_plan::connector::CatalogTable>, SqlError> {
        crate::catalog::with_hints(table, hints, self.allows_hints())
    }
}

/// `AS t (a, b)`.
pub(crate) fn rename(rel: &mut Rel, alias: &TableAlias) -> Result<(), SqlError> {
    if alias.columns.is_empty() {
        return Ok(());
    }
    if alias.columns.len() != rel.schema.fields.len() {
        return Err(SqlError::semantic(
            format!(
                "'{}' has {} columns, {} are named",
                alias.name.value,
                rel.schema.fields.len(),
                alias.columns.len()
            ),
            Position::of_span(alias.name.span),
        ));
    }
    for (field, column) in rel.schema.fields.iter_mut().zip(&alias.columns) {
        field.name.clone_from(&column.name.value);
    }
    Ok(())
}

pub(super) fn upper(name: &tree::ObjectName) -> String {
    name.to_string().replace('`', "").to_ascii_uppercase()
}

pub(super) fn is_window(name: &tree::ObjectName) -> bool {
    window::FUNCTIONS.contains(&upper(name).as_str())
}
