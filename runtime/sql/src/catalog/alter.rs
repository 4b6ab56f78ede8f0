//! ALTER TABLE and ALTER VIEW: the declaration changes, and is resolved anew. What Flink's AlterTable operations allow.

use std::sync::Arc;

use sqlparser::ast::{Ident, ObjectName};
use thalweg_functions::EvaluationEnv;

use super::definition::Definition;
use super::{Catalog, Object, Table, last_name};
use crate::ast::{
    AlterTable, AlterView, ColumnDef, ColumnPlace, CreateView, SchemaChange, TableChange, ViewChange,
};
use crate::error::{Position, SqlError};

impl Catalog {
    /// ALTER TABLE.
    pub(crate) fn alter_table(&mut self, alter: &AlterTable, env: &EvaluationEnv) -> Result<(), SqlError> {
        let name = self.alterable(&alter.name)?;
        let table = match self.permanent.get(&name) {
            Some(Object::Table(table)) => Arc::clone(table),
            Some(Object::View(_)) => {
                let message = format!("ALTER TABLE for a view is not allowed: '{name}' is a view");
                return Err(SqlError::semantic(message, alter.position));
            }
            None if alter.if_exists => return Ok(()),
            None => return Err(self.no_such("table", &alter.name)),
        };
        if let TableChange::Rename(new_name) = &alter.change {
            let new_name = self.free_name(new_name)?;
            return self.replace_table(&name, &new_name, table.definition.clone(), env);
        }
        let changed = changed(&table.definition, &alter.change, alter.position)?;
        self.replace_table(&name, &name, changed, env).map_err(|error| {
            let message = format!("Failed to execute ALTER TABLE statement.\n{}", error.message);
            let position = error.position.or(Some(alter.position));
            SqlError::new(error.kind, message, position)
        })
    }

    fn replace_table(
        &mut self,
        name: &str,
        new_name: &str,
        definition: Definition,
        env: &EvaluationEnv,
    ) -> Result<(), SqlError> {
        let table = Table {
            resolved: Arc::new(self.resolve(new_name, &definition, env)?),
            definition,
        };
        self.permanent.remove(name);
        self.permanent
            .insert(new_name.to_owned(), Object::Table(Arc::new(table)));
        Ok(())
    }

    /// ALTER VIEW.
    pub(crate) fn alter_view(&mut self, alter: &AlterView, env: &EvaluationEnv) -> Result<(), SqlError> {
        let name = self.alterable(&alter.name)?;
        let Some(Object::View(view)) = self.permanent.get(&name).cloned() else {
            return Err(self.no_such("view", &alter.name));
        };
        match &alter.change {
            ViewChange::Rename(new_name) => {
                let new_name = self.free_name(new_name)?;
                self.permanent.remove(&name);
                self.permanent.insert(new_name, Object::View(view));
            }
            ViewChange::Query(query, text) => {
                let create = CreateView {
                    temporary: false,
                    if_not_exists: false,
                    or_replace: true,
                    name: alter.name.clone(),
                    columns: Vec::new(),
                    comment: None,
                    query: query.clone(),
                    text: text.clone(),
                    position: Position::of(&alter.name).unwrap_or(Position::START),
                };
                let mut changed = self.view_of(&name, &create, env)?;
                changed.comment.clone_from(&view.comment);
                self.permanent.insert(name, Object::View(Arc::new(changed)));
            }
        }
        Ok(())
    }

    /// The name of a permanent object; a temporary one can't be altered.
    fn alterable(&self, name: &ObjectName) -> Result<String, SqlError> {
        let parts: Vec<Ident> = name
            .0
            .iter()
            .filter_map(|part| part.as_ident().cloned())
            .collect();
        let path = self.path_of(&parts)?;
        match self.temporary.contains_key(&path.name) {
            true => Err(SqlError::semantic(
                format!("Table '{path}' is temporary: it can't be altered, drop and create it"),
                Position::of(name),
            )),
            false => Ok(path.name),
        }
    }

    fn free_name(&self, name: &ObjectName) -> Result<String, SqlError> {
        let parts: Vec<Ident> = name
            .0
            .iter()
            .filter_map(|part| part.as_ident().cloned())
            .collect();
        let path = self.path_of(&parts)?;
        match self.permanent.contains_key(&path.name) {
            true => Err(SqlError::semantic(
                format!("'{path}' exists already"),
                Position::of(name),
            )),
            false => Ok(path.name),
        }
    }

    fn no_such(&self, what: &str, name: &ObjectName) -> SqlError {
        SqlError::unknown(what, &last_name(name), self.names(), Position::of(name))
    }
}

/// The declaration behind a change.
fn changed(
    definition: &Definition,
    change: &TableChange,
    position: Position,
) -> Result<Definition, SqlError> {
    let mut changed = definition.clone();
    match change {
        TableChange::Rename(_) => {}
        TableChange::RenameColumn(from, to) => rename(&mut changed, from, to)?,
        TableChange::Set(entries) => {
            let entries = entries.iter();
            changed
                .options
                .extend(entries.map(|entry| (entry.key.value.clone(), entry.value.value.clone())));
        }
        TableChange::Reset(keys) => {
            if keys.is_empty() {
                let message = "ALTER TABLE RESET does not support empty key";
                return Err(SqlError::option(message, position));
            }
            for key in keys {
                if key.value == "connector" {
                    let message = "ALTER TABLE RESET does not support changing 'connector'";
                    return Err(SqlError::option(message, key.position));
                }
                changed.options.remove(&key.value);
            }
        }
        TableChange::Add(added) => add(&mut changed, added)?,
        TableChange::Modify(modified) => modify(&mut changed, modified)?,
        TableChange::DropColumns(names) => {
            for name in names {
                refuse_used(&changed, name)?;
                let place = changed
                    .place_of(name)
                    .ok_or_else(|| changed.unknown_column(name))?;
                changed.columns.remove(place);
            }
        }
        TableChange::DropPrimaryKey => {
            if changed.primary_key.take().is_none() {
                let message = "The base table does not define any primary key.";
                return Err(SqlError::semantic(message, position));
            }
        }
        TableChange::DropWatermark => {
            if changed.watermark.take().is_none() {
                let message = "The base table does not define any watermark strategy.";
                return Err(SqlError::semantic(message, position));
            }
        }
    }
    changed.key_not_null();
    Ok(changed)
}

fn rename(definition: &mut Definition, from: &Ident, to: &Ident) -> Result<(), SqlError> {
    let place = definition
        .place_of(from)
        .ok_or_else(|| definition.unknown_column(from))?;
    if definition.place_of(to).is_some() {
        let message = format!("The column `{}` already existed in table schema.", to.value);
        return Err(SqlError::semantic(message, Position::of_span(to.span)));
    }
    if definition
        .partition_keys
        .iter()
        .any(|key| key.value == from.value)
    {
        let message = format!(
            "Can not rename column `{}` because it is used as the partition keys.",
            from.value
        );
        return Err(SqlError::semantic(message, Position::of_span(from.span)));
    }
    definition.columns[place].name = to.clone();
    let key = definition.primary_key.iter_mut().flat_map(|key| &mut key.columns);
    for name in key.filter(|name| name.value == from.value) {
        *name = to.clone();
    }
    Ok(())
}

/// Columns of a key can't go. Those that expressions name are missed when the table is resolved.
fn refuse_used(definition: &Definition, name: &Ident) -> Result<(), SqlError> {
    let used = |names: &[Ident]| names.iter().any(|key| key.value == name.value);
    let what = if definition
        .primary_key
        .as_ref()
        .is_some_and(|key| used(&key.columns))
    {
        "the primary key"
    } else if used(&definition.partition_keys) {
        "the partition keys"
    } else {
        return Ok(());
    };
    let message = format!("The column `{}` is used as {what}.", name.value);
    Err(SqlError::semantic(message, Position::of_span(name.span)))
}

fn add(definition: &mut Definition, added: &SchemaChange) -> Result<(), SqlError> {
    for (column, place) in &added.columns {
        if definition.place_of(&column.name).is_some() {
            let message = format!(
                "Try to add a column `{}` which already exists in the table.",
                column.name.value
            );
            return Err(SqlError::semantic(message, Position::of_span(column.name.span)));
        }
        insert(definition, column, place.as_ref(), None)?;
    }
    if let Some(watermark) = &added.watermark {
        if definition.watermark.is_some() {
            let message = "The base table has already defined the watermark strategy. You might want to drop it before adding a new one.";
            return Err(SqlError::semantic(message, watermark.position));
        }
        definition.watermark = Some(watermark.clone());
    }
    if let Some(key) = &added.primary_key {
        if definition.primary_key.is_some() {
            let message = "The base table has already defined the primary key constraint. You might want to drop it before adding a new one.";
            return Err(SqlError::semantic(message, key.position));
        }
        definition.primary_key = Some(key.clone());
    }
    Ok(())
}

fn modify(definition: &mut Definition, modified: &SchemaChange) -> Result<(), SqlError> {
    for (column, place) in &modified.columns {
        let Some(before) = definition.place_of(&column.name) else {
            let message = format!(
                "Try to modify a column `{}` which does not exist in the table.",
                column.name.value
            );
            return Err(SqlError::semantic(message, Position::of_span(column.name.span)));
        };
        let known = definition.columns.remove(before);
        let mut column = column.clone();
        column.comment = column.comment.or(known.comment);
        insert(definition, &column, place.as_ref(), Some(before))?;
    }
    if let Some(watermark) = &modified.watermark {
        if definition.watermark.is_none() {
            let message = "The base table does not define any watermark. You might want to add a new one.";
            return Err(SqlError::semantic(message, watermark.position));
        }
        definition.watermark = Some(watermark.clone());
    }
    if let Some(key) = &modified.primary_key {
        if definition.primary_key.is_none() {
            let message =
                "The base table does not define any primary key constraint. You might want to add a new one.";
            return Err(SqlError::semantic(message, key.position));
        }
        definition.primary_key = Some(key.clone());
    }
    Ok(())
}

/// Where it is said, else where it was, else last.
fn insert(
    definition: &mut Definition,
    column: &ColumnDef,
    place: Option<&ColumnPlace>,
    before: Option<usize>,
) -> Result<(), SqlError> {
    let index = match place {
        Some(ColumnPlace::First) => 0,
        Some(ColumnPlace::After(name)) => {
            let place = definition.place_of(name);
            place.ok_or_else(|| definition.unknown_column(name))? + 1
        }
        None => before.unwrap_or(definition.columns.len()),
    };
    definition.columns.insert(index, column.clone());
    Ok(())
}
