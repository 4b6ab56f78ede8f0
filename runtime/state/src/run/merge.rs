//! Merges the sorted runs of one subtask, oldest first: newest wins, deletes are applied.
//!
//! ```text
//!   run 0 (oldest)  block, block ..  --cursor--\
//!   run 1           block, block ..  --cursor--- next by (key group, key, DeleteKey first, sub-key, newest) --> batches
//! ```
//!
//! Invariants: of rows of one identity only the newest comes out; a DeleteKey hides the rows of its key in older runs, not
//! in its own; at most a block of each run and those of the batch being made are held.

mod compact;
mod cursor;

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::filter;
use arrow::datatypes::{Int8Type, SchemaRef};
use arrow::error::ArrowError;
use thalweg_types::key_group::key_group;

use super::Scope;
use super::encode::Converters;
use crate::file::damaged;
use crate::file::reader::StateFileReader;
use crate::state_hash::StateHash;
use crate::{ChangeKind, StateError, TableDescriptor};
pub(crate) use compact::merge_into_run;
use cursor::{Adapted, Block, Cursor, Pending};

/// Blocks that a merged batch may be made of, beside one of each run.
const EXTRA_BLOCKS: usize = 4;
/// Bytes that all runs' reads may take together, and one read at least and at most.
const READ_BYTES: usize = 32 << 20;
const READ_BYTES_LEAST: usize = 256 << 10;
const READ_BYTES_MOST: usize = 4 << 20;

/// What becomes of deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletes {
    /// They have done their work.
    Drop,
    /// Older runs are behind these.
    Keep,
}

/// The merge of one table of a subtask's runs.
pub(crate) struct TableMerge {
    descriptor: Arc<TableDescriptor>,
    converters: Converters,
    deletes: Deletes,
    scope: Scope,
    cursors: Vec<Cursor>,
    /// Indices of cursors that have rows left, by what they would give next.
    order: Vec<usize>,
    started: bool,
    /// The key that a DeleteKey came for, and of which run.
    deleted_key: Option<(u32, Box<[u8]>, usize)>,
    pending: Pending,
    failed: bool,
}

/// Merged rows.
pub(crate) struct MergedBatch {
    /// Key, sub-key and value columns.
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) hashes: Vec<u64>,
    /// None if all are upserts.
    pub(crate) changes: Option<Vec<i8>>,
}

/// The newest descriptor of each table that is in any of these runs, by name.
pub(crate) fn tables_of(runs: &[StateFileReader]) -> Vec<Arc<TableDescriptor>> {
    let mut tables = std::collections::BTreeMap::new();
    for table in runs.iter().flat_map(StateFileReader::tables) {
        tables.insert(table.name.clone(), Arc::clone(table));
    }
    tables.into_values().collect()
}

impl TableMerge {
    /// Of one subtask's runs, oldest first. Reads nothing yet. Rows outside of the key groups are left out.
    pub(crate) fn new(
        descriptor: &Arc<TableDescriptor>,
        runs: &[StateFileReader],
        scope: &Scope,
        deletes: Deletes,
    ) -> Result<Self, StateError> {
        let read_bytes = (READ_BYTES / (2 * runs.len().max(1))).clamp(READ_BYTES_LEAST, READ_BYTES_MOST);
        let mut cursors = Vec::new();
        for (age, run) in runs.iter().enumerate() {
            let Some(table) = run.table_of(&descriptor.name) else {
                continue;
            };
            let (found, wanted) = (run.footer().max_parallelism, scope.max_parallelism);
            if found != wanted {
                let message = format!("it is for max parallelism {found}, the operator has {wanted}");
                return Err(damaged(run.name(), message));
            }
            cursors.push(Cursor {
                file: run.name().to_owned(),
                adapted: Adapted::new(&run.tables()[table], descriptor)?,
                blocks: run.blocks(table, scope.key_groups, read_bytes)?,
                age,
                block: None,
                row: 0,
                end: 0,
                pooled: None,
            });
        }
        Ok(Self {
            converters: Converters::new(descriptor)?,
            descriptor: Arc::clone(descriptor),
            deletes,
            scope: *scope,
            cursors,
            order: Vec::new(),
            started: false,
            deleted_key: None,
            pending: Pending::default(),
            failed: false,
        })
    }

    /// The next rows, in order. Blocks the thread, which must not be one of the runtime's.
    pub(crate) fn next_batch(&mut self) -> Result<Option<MergedBatch>, StateError> {
        if !self.started {
            self.started = true;
            for index in 0..self.cursors.len() {
                if self.fill(index)? {
                    self.order.push(index);
                }
            }
            let mut order = std::mem::take(&mut self.order);
            order.sort_by(|left, right| self.cursors[*left].compare(&self.cursors[*right]).0);
            self.order = order;
        }
        if self.cursors.len() == 1 {
            return self.next_of_one();
        }
        while let Some(first) = self.order.first().copied() {
            if !self.take_range(first)? {
                self.take(first)?;
            }
            let limit = self.cursors.len() + EXTRA_BLOCKS;
            if self.pending.len() >= self.scope.batch_rows || self.pending.blocks.len() >= limit {
                break;
            }
        }
        self.flush()
    }

    /// One run needs no comparing: its blocks go through as they are.
    fn next_of_one(&mut self) -> Result<Option<MergedBatch>, StateError> {
        while !self.order.is_empty() {
            let cursor = &mut self.cursors[0];
            let (row, count) = (cursor.row, cursor.end - cursor.row);
            let block = cursor.block.take();
            if !self.fill(0)? {
                self.order.clear();
            }
            let Some(block) = block else { continue };
            let mut hashes = block.hashes;
            hashes.truncate(row + count);
            hashes.drain(..row);
            let batch = MergedBatch {
                columns: block
                    .columns
                    .iter()
                    .map(|column| column.slice(row, count))
                    .collect(),
                hashes,
                changes: block
                    .changes
                    .map(|changes| changes.values()[row..row + count].to_vec()),
            };
            let batch = match self.deletes {
                Deletes::Drop => batch.without_deletes()?,
                Deletes::Keep => batch,
            };
            if !batch.hashes.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Takes the rows of the first run that come before the next of all others; false if there is none, or more is to be looked at.
    fn take_range(&mut self, first: usize) -> Result<bool, StateError> {
        let cursor = &self.cursors[first];
        let has_changes = cursor.block.as_ref().is_some_and(|block| block.changes.is_some());
        if has_changes || self.deleted_key.is_some() {
            return Ok(false);
        }
        let room = self.scope.batch_rows.saturating_sub(self.pending.len()).max(1);
        let until = cursor.end.min(cursor.row + room);
        let end = match self.order.get(1) {
            Some(second) => cursor.end_before(&self.cursors[*second], until),
            None => until,
        };
        if end == cursor.row {
            return Ok(false);
        }
        let cursor = &mut self.cursors[first];
        let rows = cursor.row..end;
        cursor.row = end - 1;
        self.pending.push(cursor, rows, ChangeKind::Upsert as i8);
        self.advance(0)?;
        Ok(true)
    }

    /// Takes the row that is next, leaves out the older ones of its identity, and puts the cursor in its new place.
    fn take(&mut self, first: usize) -> Result<(), StateError> {
        while let Some(second) = self.order.get(1).copied() {
            let (_, same) = self.cursors[first].compare(&self.cursors[second]);
            if !same {
                break;
            }
            self.advance(1)?;
        }
        let change = self.cursors[first].change();
        if !self.is_hidden(first) {
            if change == ChangeKind::DeleteKey as i8 {
                self.deleted_key = self.cursors[first].deleted_key();
            }
            if change == ChangeKind::Upsert as i8 || self.deletes == Deletes::Keep {
                let row = self.cursors[first].row;
                self.pending.push(&mut self.cursors[first], row..row + 1, change);
            }
        }
        self.advance(0)
    }

    /// Whether a newer run has a DeleteKey of the row's key.
    fn is_hidden(&mut self, index: usize) -> bool {
        let Some((group, key, age)) = &self.deleted_key else {
            return false;
        };
        let cursor = &self.cursors[index];
        let same_key = cursor.group() == *group && cursor.key() == Some(&**key);
        let hidden = same_key && cursor.age < *age;
        if !same_key {
            self.deleted_key = None;
        }
        hidden
    }

    /// Moves the cursor at this place of the order to its next row.
    fn advance(&mut self, place: usize) -> Result<(), StateError> {
        let index = self.order[place];
        self.cursors[index].row += 1;
        if self.cursors[index].row == self.cursors[index].end && !self.fill(index)? {
            self.order.remove(place);
            return Ok(());
        }
        let mut place = place;
        while let Some(next) = self.order.get(place + 1).copied()
            && self.cursors[index].compare(&self.cursors[next]).0 == Ordering::Greater
        {
            self.order.swap(place, place + 1);
            place += 1;
        }
        Ok(())
    }

    /// Reads blocks until the cursor has a row of its key groups. False at the run's end.
    fn fill(&mut self, index: usize) -> Result<bool, StateError> {
        let compares = self.cursors.len() > 1;
        let cursor = &mut self.cursors[index];
        cursor.pooled = None;
        cursor.block = None;
        while let Some(next) = cursor.blocks.next() {
            let (batch, changes) = next?;
            let mut columns = batch.columns().to_vec();
            let changes = changes.then(|| columns.remove(0).as_primitive::<Int8Type>().clone());
            let mut hashes = Vec::new();
            let keys = &columns[..self.descriptor.key.len()];
            StateHash::of(&self.descriptor.key, self.scope.max_parallelism)
                .hashes(keys, &mut hashes)
                .map_err(|error| damaged(&cursor.file, format!("a key can't be hashed: {error}")))?;
            let wanted = self.scope.key_groups;
            let group = |hash: &u64| key_group(*hash, self.scope.max_parallelism);
            cursor.row = hashes.partition_point(|hash| group(hash) < wanted.start);
            cursor.end = hashes.partition_point(|hash| group(hash) <= wanted.end);
            if cursor.row == cursor.end {
                continue;
            }
            if let Some(adapted) = &cursor.adapted {
                columns = adapted.adapt(columns)?;
            }
            let keys = &columns[..self.descriptor.key.len()];
            let sub_keys = &columns[keys.len()..keys.len() + self.descriptor.sub_key.len()];
            let (groups, keys) = match compares {
                true => {
                    let groups = hashes.iter().map(group).collect();
                    (groups, Some(self.converters.convert(keys, sub_keys)?))
                }
                false => (Vec::new(), None),
            };
            cursor.block = Some(Block {
                columns,
                hashes,
                groups,
                changes,
                keys,
            });
            return Ok(true);
        }
        Ok(false)
    }

    fn flush(&mut self) -> Result<Option<MergedBatch>, StateError> {
        let pending = std::mem::take(&mut self.pending);
        for cursor in &mut self.cursors {
            cursor.pooled = None;
        }
        if pending.len() == 0 {
            return Ok(None);
        }
        let columns = (0..pending.blocks[0].len())
            .map(|column| pending.column(column))
            .collect::<Result<_, _>>()
            .map_err(merging)?;
        Ok(Some(MergedBatch {
            columns,
            hashes: pending.hashes,
            changes: pending.any_delete.then_some(pending.changes),
        }))
    }

    /// Batches of [`TableDescriptor::row_schema`]; ends with the first error.
    pub(crate) fn into_rows(mut self) -> impl Iterator<Item = Result<RecordBatch, StateError>> + Send {
        let schema = self.descriptor.row_schema();
        std::iter::from_fn(move || {
            if self.failed {
                return None;
            }
            let result = self.next_batch().and_then(|batch| match batch {
                Some(batch) => batch.into_rows(&schema).map(Some),
                None => Ok(None),
            });
            self.failed = result.is_err();
            result.transpose()
        })
    }
}

fn merging(source: ArrowError) -> StateError {
    StateError::Arrow {
        step: "merging runs",
        source,
    }
}

impl MergedBatch {
    fn without_deletes(self) -> Result<Self, StateError> {
        let Some(changes) = self.changes else {
            return Ok(Self {
                changes: None,
                ..self
            });
        };
        let upsert = |change: &i8| *change == ChangeKind::Upsert as i8;
        let kept = BooleanArray::from_iter(changes.iter().map(|change| Some(upsert(change))));
        Self {
            changes: None,
            ..self
        }
        .filtered(&kept)
    }

    /// These rows of a batch of upserts.
    fn filtered(&self, kept: &BooleanArray) -> Result<Self, StateError> {
        let columns = self
            .columns
            .iter()
            .map(|column| filter(column, kept).map_err(merging));
        let hashes = self.hashes.iter().enumerate();
        Ok(Self {
            columns: columns.collect::<Result<_, _>>()?,
            hashes: hashes
                .filter_map(|(row, hash)| kept.value(row).then_some(*hash))
                .collect(),
            changes: None,
        })
    }

    /// As a batch of [`TableDescriptor::row_schema`].
    fn into_rows(self, schema: &SchemaRef) -> Result<RecordBatch, StateError> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len() + 1);
        columns.push(Arc::new(UInt64Array::from(self.hashes)));
        columns.extend(self.columns);
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(merging)
    }
}
