//! Opens the files of a restore and lays out which rows come from where.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::stream::{self, StreamExt, TryStreamExt};
use thalweg_proto::state::v1::{KeyedRun, OperatorRestore, StateFile, SubtaskRuns};
use thalweg_types::KeyGroupRange;

use super::{OPEN_AT_A_TIME, SnapshotStore};
use crate::file::damaged;
use crate::file::footer::TableEntry;
use crate::file::reader::StateFileReader;
use crate::run::Scope;
use crate::run::merge::{Deletes, TableMerge};
use crate::schema::distribution_of;
use crate::{RestoredList, RestoredTable, StateError, TableDescriptor};

/// One subtask's open runs, and which of their key groups are wanted.
struct SubtaskFiles {
    runs: Vec<StateFileReader>,
    /// Which checkpoint wrote each run.
    checkpoints: Vec<u64>,
    wanted: KeyGroupRange,
}

impl SnapshotStore {
    /// In the order given.
    pub(super) async fn open_runs(&self, runs: &[KeyedRun]) -> Result<Vec<StateFileReader>, StateError> {
        let open = runs.iter().map(|run| async move {
            let owner = format!("keyed state of checkpoint {}", run.checkpoint_id);
            self.open_file(&file_of(run.file.as_ref(), &owner)?, &owner).await
        });
        // Each future is boxed: the compiler can't tell that the closure's are Send otherwise.
        let open: Vec<_> = open.map(FutureBox::pin).collect();
        stream::iter(open).buffered(OPEN_AT_A_TIME).try_collect().await
    }

    /// The tables, and about how many keys they have.
    pub(super) async fn restore_tables(
        &self,
        restore: &OperatorRestore,
        key_groups: KeyGroupRange,
        max_parallelism: u32,
    ) -> Result<(Vec<RestoredTable>, usize), StateError> {
        let overlapping: Vec<(&SubtaskRuns, KeyGroupRange)> = restore
            .keyed
            .iter()
            .filter_map(|subtask| Some((subtask, wanted_of(&subtask.runs, key_groups)?)))
            .collect();
        let runs: Vec<KeyedRun> = overlapping
            .iter()
            .flat_map(|(subtask, _)| subtask.runs.iter().cloned())
            .collect();
        let mut opened = self.open_runs(&runs).await?.into_iter();
        let mut subtasks: Vec<SubtaskFiles> = overlapping
            .into_iter()
            .map(|(subtask, wanted)| SubtaskFiles {
                runs: opened.by_ref().take(subtask.runs.len()).collect(),
                checkpoints: subtask.runs.iter().map(|run| run.checkpoint_id).collect(),
                wanted,
            })
            .collect();
        subtasks.sort_by_key(|subtask| subtask.wanted.start);
        let overlap = subtasks
            .windows(2)
            .find(|pair| pair[0].wanted.end >= pair[1].wanted.start);
        if let Some(file) = overlap.and_then(|pair| pair[1].runs.first()) {
            return Err(damaged(
                file.name(),
                "another subtask's files hold the same key groups",
            ));
        }
        let tables = newest_tables(&subtasks)
            .into_values()
            .map(|table| restored_table(&table, &subtasks, max_parallelism));
        let keys: u64 = subtasks.iter().map(keys_of).sum();
        Ok((tables.collect::<Result<_, _>>()?, keys as usize))
    }

    pub(super) async fn restore_lists(
        &self,
        restore: &OperatorRestore,
    ) -> Result<Vec<RestoredList>, StateError> {
        let mut lists: Vec<RestoredList> = Vec::new();
        for part in &restore.lists {
            let Some(list) = &part.list else { continue };
            let owner = format!("list {:?}", list.name);
            let distribution = distribution_of(list.distribution)
                .ok_or_else(|| damaged("_metadata", format!("{owner} has an unknown distribution")))?;
            let file = file_of(list.file.as_ref(), &owner)?;
            let items = self.read_items(&file, &owner, part.first, part.count).await?;
            match lists.iter_mut().find(|known| known.name == list.name) {
                Some(known) => known.items.extend(items),
                None => lists.push(RestoredList {
                    name: list.name.clone(),
                    distribution,
                    items,
                }),
            }
        }
        Ok(lists)
    }

    /// Rows of a file's one table without keys; a file of no batches has no table.
    pub(super) async fn read_items(
        &self,
        file: &StateFile,
        owner: &str,
        first: u64,
        count: u64,
    ) -> Result<Vec<RecordBatch>, StateError> {
        let reader = self.open_file(file, owner).await?;
        if reader.tables().is_empty() {
            return Ok(Vec::new());
        }
        let name = reader.name().to_owned();
        let read = move || reader.items(0, first, count)?.collect();
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|error| {
            Err(StateError::Storage {
                file: name,
                message: format!("reading it was ended: {error}"),
                retryable: true,
            })
        })
    }
}

struct FutureBox;

impl FutureBox {
    fn pin<'a, F: Future + Send + 'a>(
        future: F,
    ) -> std::pin::Pin<Box<dyn Future<Output = F::Output> + Send + 'a>> {
        Box::pin(future)
    }
}

fn file_of(file: Option<&StateFile>, owner: &str) -> Result<StateFile, StateError> {
    file.cloned()
        .ok_or_else(|| damaged("_metadata", format!("{owner} has no file")))
}

/// The wanted key groups that a subtask's runs may hold; None if there are none.
fn wanted_of(runs: &[KeyedRun], key_groups: KeyGroupRange) -> Option<KeyGroupRange> {
    let first = runs.iter().map(|run| run.first_key_group).min()?;
    let last = runs.iter().map(|run| run.last_key_group).max()?;
    let wanted = KeyGroupRange {
        start: first.max(key_groups.start),
        end: last.min(key_groups.end),
    };
    (wanted.start <= wanted.end).then_some(wanted)
}

/// Each table as the newest run that has it says, whichever subtask's that is.
fn newest_tables(subtasks: &[SubtaskFiles]) -> BTreeMap<String, Arc<TableDescriptor>> {
    let runs = |subtask: &SubtaskFiles| {
        let checkpoints = subtask.checkpoints.clone();
        checkpoints.into_iter().zip(subtask.runs.clone())
    };
    let mut all: Vec<(u64, StateFileReader)> = subtasks.iter().flat_map(runs).collect();
    all.sort_by_key(|(checkpoint, _)| *checkpoint);
    let readers = all.iter().flat_map(|(_, run)| run.tables());
    readers
        .map(|table| (table.name.clone(), Arc::clone(table)))
        .collect()
}

/// At least about so many keys: the rows of the largest table with one row a key, in the run that has most of them.
fn keys_of(subtask: &SubtaskFiles) -> u64 {
    let tables = subtask.runs.iter().flat_map(|run| &run.footer().tables);
    let rows = |table: &TableEntry| {
        let wanted = table
            .rows_by_group()
            .filter(|(group, _)| subtask.wanted.contains(*group));
        wanted.map(|(_, rows)| rows).sum()
    };
    tables
        .filter(|table| table.sub_key_columns == 0)
        .map(rows)
        .max()
        .unwrap_or(0)
}

/// The rows of one subtask after the other's, by key group.
fn restored_table(
    table: &Arc<TableDescriptor>,
    subtasks: &[SubtaskFiles],
    max_parallelism: u32,
) -> Result<RestoredTable, StateError> {
    let merges = subtasks
        .iter()
        .map(|subtask| {
            let scope = Scope::new(subtask.wanted, max_parallelism);
            TableMerge::new(table, &subtask.runs, &scope, Deletes::Drop)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RestoredTable {
        descriptor: TableDescriptor::clone(table),
        rows: Box::new(merges.into_iter().flat_map(TableMerge::into_rows)),
    })
}
