//! What `thalweg state export` writes: an operator's state, of all its subtasks, as columns.
//!
//! ```text
//!   runs of subtask 0, of subtask 1, .. --merge: newest wins, deletes applied--> rows by key group  \
//!   list files of subtask 0, 1, ..      --one after the other--------------------> items            } batches
//! ```
//!
//! Invariants: nothing is read before it is asked for, and then a few blocks of each run; columns of one state have
//! different names; a state that is told in the metadata only, but has no file, is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use futures::future::try_join_all;
use thalweg_proto::state::v1::{OperatorList, OperatorRestore, OperatorState, SubtaskRuns};
use thalweg_types::KeyGroupRange;
use thalweg_types::key_group::key_group;

use super::SnapshotStore;
use crate::file::damaged;
use crate::file::reader::StateFileReader;
use crate::inspect::resolve;
use crate::schema::{distribution_of, kind_name};
use crate::snapshot::{KEY_GROUP_COLUMN, RestoredRows};
use crate::{ListDistribution, RestoredTable, StateError, TableDescriptor};

/// What a state is to its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// A keyed table: "value", "map" and so on.
    Keyed(&'static str),
    /// A list that belongs to no key.
    List,
}

/// One state of an operator.
pub struct ExportedState {
    /// As the operator calls it.
    pub name: String,
    /// What it is.
    pub kind: StateKind,
    /// Key, sub-key and value columns, `$key_group` in front if it was asked for; or a list's columns.
    pub schema: SchemaRef,
    /// All of `schema`. Blocks: not for a thread of the runtime.
    pub rows: RestoredRows,
}

impl SnapshotStore {
    /// The states of an operator. `folder` is the URI that the paths in the metadata are relative to, see
    /// [`Self::inspect`]. Opens all files, which finds most damages; other rows are read as they are asked for.
    pub async fn export(
        &self,
        operator: &OperatorState,
        folder: &str,
        with_key_groups: bool,
    ) -> Result<Vec<ExportedState>, StateError> {
        let mut states = Vec::new();
        for table in self.exported_tables(operator, folder).await? {
            states.push(keyed_state(table, operator.max_parallelism, with_key_groups));
        }
        let mut lists: BTreeMap<&str, Vec<&OperatorList>> = BTreeMap::new();
        for list in operator.subtasks.iter().flat_map(|subtask| &subtask.lists) {
            lists.entry(&list.name).or_default().push(list);
        }
        for (name, parts) in lists {
            let readers = self.open_list(name, &parts, folder).await?;
            states.extend(list_state(name, &readers)?);
        }
        Ok(states)
    }

    async fn exported_tables(
        &self,
        operator: &OperatorState,
        folder: &str,
    ) -> Result<Vec<RestoredTable>, StateError> {
        let mut keyed = Vec::with_capacity(operator.subtasks.len());
        for subtask in operator
            .subtasks
            .iter()
            .filter(|subtask| !subtask.runs.is_empty())
        {
            let mut runs = subtask.runs.clone();
            for run in &mut runs {
                run.file = match &run.file {
                    Some(file) => Some(resolve(file, folder)?),
                    None => None,
                };
            }
            keyed.push(SubtaskRuns { runs });
        }
        let all = KeyGroupRange {
            start: 0,
            end: operator.max_parallelism.saturating_sub(1),
        };
        let restore = OperatorRestore {
            keyed,
            ..OperatorRestore::default()
        };
        let restored = self
            .restore_tables(&restore, all, operator.max_parallelism)
            .await?;
        Ok(restored.0)
    }

    /// In the order of the subtasks; of a broadcast list, which all of them hold, one.
    async fn open_list(
        &self,
        name: &str,
        parts: &[&OperatorList],
        folder: &str,
    ) -> Result<Vec<StateFileReader>, StateError> {
        let first = parts.first().map(|list| distribution_of(list.distribution));
        let wanted = match first {
            Some(Some(ListDistribution::Broadcast)) => 1,
            _ => parts.len(),
        };
        let owner = format!("list {name:?}");
        let mut files = Vec::with_capacity(wanted);
        for list in &parts[..wanted] {
            let missing = || damaged("_metadata", format!("{owner} has no file"));
            files.push(resolve(list.file.as_ref().ok_or_else(missing)?, folder)?);
        }
        try_join_all(files.iter().map(|file| self.open_file(file, &owner))).await
    }
}

fn keyed_state(table: RestoredTable, max_parallelism: u32, with_key_groups: bool) -> ExportedState {
    let descriptor = table.descriptor;
    let schema = keyed_schema(&descriptor, with_key_groups);
    let to = Arc::clone(&schema);
    let rows = table.rows.map(move |batch| {
        let batch = batch?;
        let (hashes, columns) = (batch.column(0), &batch.columns()[1..]);
        let groups = with_key_groups.then(|| {
            let hashes = hashes.as_primitive::<UInt64Type>().values().iter();
            let groups = hashes.map(|hash| key_group(*hash, max_parallelism));
            Arc::new(UInt32Array::from_iter_values(groups)) as ArrayRef
        });
        let columns = groups.into_iter().chain(columns.iter().cloned());
        with_schema(&to, columns.collect())
    });
    ExportedState {
        kind: StateKind::Keyed(kind_name(descriptor.kind)),
        name: descriptor.name,
        schema,
        rows: Box::new(rows),
    }
}

fn with_schema(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, StateError> {
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|source| StateError::Arrow {
        step: "exporting rows",
        source,
    })
}

/// Columns that share a name get their part's in front of it: `key.id`, `value.id`.
fn keyed_schema(descriptor: &TableDescriptor, with_key_groups: bool) -> SchemaRef {
    let parts = [
        ("key", &descriptor.key),
        ("sub", &descriptor.sub_key),
        ("value", &descriptor.value),
    ];
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for field in parts.iter().flat_map(|(_, fields)| fields.iter()) {
        if !seen.insert(field.name()) {
            twice.insert(field.name());
        }
    }
    let group = Field::new(KEY_GROUP_COLUMN, DataType::UInt32, false);
    let mut fields: Vec<Field> = with_key_groups.then_some(group).into_iter().collect();
    for (part, columns) in parts {
        for field in columns {
            let name = match twice.contains(field.name()) {
                true => format!("{part}.{}", field.name()),
                false => field.name().clone(),
            };
            // A program that was changed may have left them empty in older rows.
            let nullable = field.is_nullable() || part != "key";
            fields.push(Field::clone(field).with_name(name).with_nullable(nullable));
        }
    }
    Arc::new(Schema::new(fields))
}

/// None if no subtask had an item, and none says what its columns would be.
fn list_state(name: &str, readers: &[StateFileReader]) -> Result<Option<ExportedState>, StateError> {
    let with_columns = |reader: &&StateFileReader| !reader.tables().is_empty();
    let readers: Vec<StateFileReader> = readers.iter().filter(with_columns).cloned().collect();
    let Some(first) = readers.first() else {
        return Ok(None);
    };
    let columns = first.tables()[0].value.clone();
    if let Some(other) = readers.iter().find(|reader| reader.tables()[0].value != columns) {
        let message = format!("its columns are not those of {}", first.name());
        return Err(damaged(other.name(), message));
    }
    let nullable = columns
        .iter()
        .map(|field| Field::clone(field).with_nullable(true));
    let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
    let to = Arc::clone(&schema);
    // One that can't be begun ends the rows with its error.
    let items = readers
        .into_iter()
        .flat_map(|reader| match reader.items(0, 0, u64::MAX) {
            Ok(items) => Box::new(items) as RestoredRows,
            Err(error) => Box::new(std::iter::once(Err(error))),
        });
    let rows = items.map(move |batch| with_schema(&to, batch?.columns().to_vec()));
    Ok(Some(ExportedState {
        name: name.to_owned(),
        kind: StateKind::List,
        schema,
        rows: Box::new(rows),
    }))
}
