//! Tables, views and functions of a session: `default_catalog.default_database`, and temporary ones that hide them.
//!
//! ```text
//!   CREATE --create, like--> Definition --resolve--> Object --find--> binder        SHOW, DESCRIBE --show--> rows
//!                  ALTER --alter--^
//! ```
//!
//! Invariant: what is in the catalog was checked when it was created: all names and types of computed columns, watermarks and views.

mod alter;
mod create;
mod definition;
mod functions;
mod like;
mod show;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlparser::ast::{Ident, Query};
use thalweg_plan::Schema;
use thalweg_plan::connector::{CatalogTable, ObjectPath};

use crate::ast::{Drop, Hint, HintArg, ObjectKind};
use crate::error::{Position, SqlError};

use definition::Definition;
use functions::Functions;
pub use show::Rows;

/// The only catalog.
const CATALOG: &str = "default_catalog";
/// The only database.
const DATABASE: &str = "default_database";

/// What a session has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    permanent: BTreeMap<String, Object>,
    temporary: BTreeMap<String, Object>,
    functions: Functions,
}

/// A table or view.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    /// A table.
    Table(Arc<Table>),
    /// A view.
    View(Arc<View>),
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) definition: Definition,
    /// What plans read.
    pub(crate) resolved: Arc<CatalogTable>,
}

/// A view.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) query: Box<Query>,
    /// As it is written.
    pub(crate) text: String,
    /// Names of its columns.
    pub(crate) columns: Vec<String>,
    /// Their types.
    pub(crate) schema: Schema,
    pub(crate) comment: Option<String>,
}

impl Object {
    fn kind(&self) -> ObjectKind {
        match self {
            Self::Table(_) => ObjectKind::Table,
            Self::View(_) => ObjectKind::View,
        }
    }
}

impl Catalog {
    /// The whole path that a name stands for; another catalog or database is refused.
    pub(crate) fn path_of(&self, parts: &[Ident]) -> Result<ObjectPath, SqlError> {
        let position = parts.first().and_then(|part| Position::of_span(part.span));
        let (name, before) = match parts.split_last() {
            Some((name, before)) if before.len() <= 2 => (name, before),
            _ => {
                return Err(SqlError::semantic(
                    "A name has at most three parts: catalog.database.table",
                    position,
                ));
            }
        };
        let expected: &[&str] = if before.len() == 2 {
            &[CATALOG, DATABASE]
        } else {
            &[DATABASE]
        };
        for (part, expected) in before.iter().zip(expected) {
            if part.value != *expected {
                let what = if *expected == CATALOG {
                    "catalog"
                } else {
                    "database"
                };
                return Err(SqlError::unsupported(
                    format!(
                        "There is no {what} '{}': '{expected}' is the only one",
                        part.value
                    ),
                    Position::of_span(part.span),
                ));
            }
        }
        Ok(path(&name.value))
    }

    /// USE CATALOG: there is one.
    pub(crate) fn use_catalog(&self, name: &Ident) -> Result<(), SqlError> {
        let database = Ident::new(DATABASE);
        let table = Ident::new("");
        self.path_of(&[name.clone(), database, table]).map(drop)
    }

    /// USE: there is one database.
    pub(crate) fn use_database(&self, name: &sqlparser::ast::ObjectName) -> Result<(), SqlError> {
        let mut parts: Vec<Ident> = name
            .0
            .iter()
            .filter_map(|part| part.as_ident().cloned())
            .collect();
        parts.push(Ident::new(""));
        self.path_of(&parts).map(drop)
    }

    /// A table or view.
    pub(crate) fn find(&self, path: &ObjectPath, position: Option<Position>) -> Result<&Object, SqlError> {
        let found = self
            .temporary
            .get(&path.name)
            .or_else(|| self.permanent.get(&path.name));
        found.ok_or_else(|| SqlError::unknown("table", &path.name, self.names(), position))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.temporary
            .keys()
            .chain(self.permanent.keys())
            .map(String::as_str)
    }

    /// Functions of CREATE FUNCTION.
    pub(crate) fn functions(&self) -> &Functions {
        &self.functions
    }

    /// CREATE FUNCTION.
    pub(crate) fn create_function(&mut self, function: &crate::ast::CreateFunction) -> Result<(), SqlError> {
        self.functions.create(function)
    }

    /// DROP.
    pub(crate) fn drop(&mut self, drop: &Drop) -> Result<(), SqlError> {
        let position = Position::of(&drop.name);
        let name = last_name(&drop.name);
        if drop.kind == ObjectKind::Function {
            return self.functions.drop(drop);
        }
        let objects = if drop.temporary {
            &mut self.temporary
        } else {
            &mut self.permanent
        };
        let found = objects.get(&name).map(Object::kind) == Some(drop.kind);
        if found {
            objects.remove(&name);
            return Ok(());
        }
        match drop.if_exists {
            true => Ok(()),
            false => {
                let kind = drop.kind;
                let known = objects.iter().filter(|(_, object)| object.kind() == kind);
                let what = if kind == ObjectKind::Table {
                    "table"
                } else {
                    "view"
                };
                Err(SqlError::unknown(
                    what,
                    &name,
                    known.map(|(name, _)| name.as_str()),
                    position,
                ))
            }
        }
    }

    fn add(
        &mut self,
        name: &str,
        object: Object,
        temporary: bool,
        if_not_exists: bool,
        or_replace: bool,
        position: Position,
    ) -> Result<(), SqlError> {
        let objects = if temporary {
            &mut self.temporary
        } else {
            &mut self.permanent
        };
        match objects.get(name) {
            Some(_) if if_not_exists => Ok(()),
            Some(known) if !or_replace || known.kind() != object.kind() => Err(SqlError::semantic(
                format!(
                    "Could not execute CreateTable in path `{CATALOG}`.`{DATABASE}`.`{name}`: Table (or view) {DATABASE}.{name} already exists in Catalog {CATALOG}."
                ),
                position,
            )),
            _ => {
                objects.insert(name.to_owned(), object);
                Ok(())
            }
        }
    }
}

fn path(name: &str) -> ObjectPath {
    ObjectPath {
        catalog: CATALOG.to_owned(),
        database: DATABASE.to_owned(),
        name: name.to_owned(),
    }
}

fn last_name(name: &sqlparser::ast::ObjectName) -> String {
    let last = name.0.last().and_then(|part| part.as_ident());
    last.map(|name| name.value.clone()).unwrap_or_default()
}

/// A table with the options of its hints over its own.
pub(crate) fn with_hints(
    table: &Arc<CatalogTable>,
    hints: &[Hint],
    allowed: bool,
) -> Result<Arc<CatalogTable>, SqlError> {
    let Some(first) = hints.first() else {
        return Ok(Arc::clone(table));
    };
    if !allowed {
        let message = "OPTIONS hints are allowed only with 'table.dynamic-table-options.enabled' = 'true'";
        return Err(SqlError::option(message, first.position));
    }
    let mut table = CatalogTable::clone(table);
    for arg in hints.iter().flat_map(|hint| &hint.args) {
        if let HintArg::Entry(entry) = arg {
            table
                .options
                .insert(entry.key.value.clone(), entry.value.value.clone());
        }
    }
    Ok(Arc::new(table))
}
