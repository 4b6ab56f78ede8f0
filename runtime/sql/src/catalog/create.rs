//! CREATE TABLE and CREATE VIEW.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlparser::ast::Ident;
use thalweg_functions::EvaluationEnv;

use super::definition::{Definition, repeated};
use super::like::{Inherited, inherited};
use super::{Catalog, Object, Table, View, last_name};
use crate::ast::{ColumnDefKind, CreateTable, CreateView};
use crate::binder::Binder;
use crate::error::{Position, SqlError};

impl Catalog {
    /// CREATE TABLE.
    pub(crate) fn create_table(&mut self, create: &CreateTable, env: &EvaluationEnv) -> Result<(), SqlError> {
        if let Some(distribution) = &create.distribution {
            return Err(SqlError::unsupported(
                "DISTRIBUTED is not supported",
                distribution.position,
            ));
        }
        if create.as_query.is_some() {
            let message = "CREATE TABLE AS is not supported: use CREATE TABLE and INSERT INTO";
            return Err(SqlError::unsupported(message, create.position));
        }
        let name = last_name(&create.name);
        let parts: Vec<Ident> = create
            .name
            .0
            .iter()
            .filter_map(|part| part.as_ident().cloned())
            .collect();
        self.path_of(&parts)?;
        let base = create
            .like
            .as_ref()
            .map(|like| inherited(self, like))
            .transpose()?;
        let definition = merged(base.unwrap_or_default(), create)?;
        let table = Table {
            resolved: Arc::new(self.resolve(&name, &definition, env)?),
            definition,
        };
        self.add(
            &name,
            Object::Table(Arc::new(table)),
            create.temporary,
            create.if_not_exists,
            create.or_replace,
            create.position,
        )
    }

    /// CREATE VIEW.
    pub(crate) fn create_view(&mut self, create: &CreateView, env: &EvaluationEnv) -> Result<(), SqlError> {
        let name = last_name(&create.name);
        let parts: Vec<Ident> = create
            .name
            .0
            .iter()
            .filter_map(|part| part.as_ident().cloned())
            .collect();
        self.path_of(&parts)?;
        let view = self.view_of(&name, create, env)?;
        self.add(
            &name,
            Object::View(Arc::new(view)),
            create.temporary,
            create.if_not_exists,
            create.or_replace,
            create.position,
        )
    }

    /// A view as its query says.
    pub(super) fn view_of(
        &self,
        name: &str,
        create: &CreateView,
        env: &EvaluationEnv,
    ) -> Result<View, SqlError> {
        let rel = Binder::new(self, env.clone(), true).query(&create.query, None)?;
        let mut columns: Vec<String> = rel.schema.fields.iter().map(|field| field.name.clone()).collect();
        if !create.columns.is_empty() {
            let named: Vec<String> = create.columns.iter().map(|column| column.value.clone()).collect();
            if named.len() != columns.len() {
                let message = format!(
                    "VIEW definition and input fields not match:\n\tDef fields: [{}].\n\tInput fields: [{}].",
                    named.join(", "),
                    columns.join(", ")
                );
                return Err(SqlError::semantic(message, create.position));
            }
            columns = named;
        }
        if let Some(twice) = repeated(columns.iter().map(String::as_str)) {
            let message = format!("View '{name}' has two columns named '{twice}'");
            return Err(SqlError::semantic(message, create.position));
        }
        Ok(View {
            query: create.query.clone(),
            text: create.text.clone(),
            columns,
            schema: rel.schema,
            comment: create.comment.as_ref().map(|comment| comment.value.clone()),
        })
    }
}

/// What LIKE gives, with what the statement adds.
fn merged(base: Inherited, create: &CreateTable) -> Result<Definition, SqlError> {
    let mut definition = base.definition;
    for added in &create.columns {
        if let Some(place) = definition.place_of(&added.name) {
            let may_replace = match (&definition.columns[place].kind, &added.kind) {
                (ColumnDefKind::Computed(_), ColumnDefKind::Computed(_)) => base.overwrites_generated,
                (ColumnDefKind::Metadata { .. }, ColumnDefKind::Metadata { .. }) => base.overwrites_metadata,
                _ => false,
            };
            if !may_replace {
                let message = format!(
                    "A column named '{}' already exists in the table.",
                    added.name.value
                );
                return Err(SqlError::semantic(message, Position::of_span(added.name.span)));
            }
            definition.columns[place] = added.clone();
        } else {
            definition.columns.push(added.clone());
        }
    }
    if let Some(watermark) = &create.watermark {
        if definition.watermark.is_some() && !base.overwrites_watermark {
            let message = "There already exists a watermark in the base table. You might want to specify EXCLUDING WATERMARKS or \
                           OVERWRITING WATERMARKS.";
            return Err(SqlError::semantic(message, watermark.position));
        }
        definition.watermark = Some(watermark.clone());
    }
    if let Some(key) = &create.primary_key {
        if definition.primary_key.is_some() {
            let message =
                "The base table already has a primary key. You might want to specify EXCLUDING CONSTRAINTS.";
            return Err(SqlError::semantic(message, key.position));
        }
        definition.primary_key = Some(key.clone());
    }
    if let Some(first) = create.partitioned_by.first() {
        if !definition.partition_keys.is_empty() {
            let message = "The base table already has partitions defined. You might want to specify EXCLUDING PARTITIONS.";
            return Err(SqlError::semantic(message, Position::of_span(first.span)));
        }
        definition.partition_keys.clone_from(&create.partitioned_by);
    }
    definition.options = options(definition.options, base.overwrites_options, create)?;
    if let Some(comment) = &create.comment {
        definition.comment = Some(comment.value.clone());
    }
    definition.key_not_null();
    Ok(definition)
}

fn options(
    mut options: BTreeMap<String, String>,
    overwrites: bool,
    create: &CreateTable,
) -> Result<BTreeMap<String, String>, SqlError> {
    let mut given = BTreeSet::new();
    for entry in &create.options {
        let (key, value) = (&entry.key, &entry.value);
        if !given.insert(&key.value) {
            let message = format!("Option '{}' is given twice", key.value);
            return Err(SqlError::option(message, key.position));
        }
        let known = options.insert(key.value.clone(), value.value.clone());
        if let (Some(known), false) = (known, overwrites) {
            let message = format!(
                "There already exists an option ['{}' -> '{known}']  in the base table. You might want to specify EXCLUDING OPTIONS or \
                 OVERWRITING OPTIONS.",
                key.value
            );
            return Err(SqlError::option(message, key.position));
        }
    }
    Ok(options)
}
