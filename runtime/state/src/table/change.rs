//! Builds the columns of a table's snapshot from slots, change kinds and the table's own columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::SchemaRef;
use thalweg_types::key_group::key_group;

use crate::key_index::{KeyIndex, KeyIndexError, Slot};
use crate::snapshot::{ChangeKind, StateError, TableDescriptor};

/// Rows of one batch of changes.
const BATCH_ROWS: usize = 8192;
/// Bytes of values in one batch of changes, about.
const BATCH_BYTES: usize = 4 << 20;

/// Collects one table's changes.
///
/// ```text
///   note(slot, kind) + the table appends to its own column builders, row by row; is_full() -> flush(the columns)
/// ```
pub(crate) struct ChangeWriter<'a> {
    index: &'a KeyIndex,
    schema: SchemaRef,
    max_parallelism: u32,
    slots: Vec<Slot>,
    kinds: Vec<i8>,
    out: Out<'a>,
}

/// What becomes of the rows.
enum Out<'a> {
    /// Batches of changes.
    Batches(Vec<RecordBatch>),
    /// See [`TakeColumns`].
    Columns(&'a mut TakeColumns<'a>),
}

/// Takes a table's own columns, with the slots that the rows are of.
pub(crate) type TakeColumns<'a> = dyn FnMut(&[Slot], Vec<ArrayRef>) -> Result<(), StateError> + 'a;

impl<'a> ChangeWriter<'a> {
    pub(crate) fn new(index: &'a KeyIndex, descriptor: &TableDescriptor, max_parallelism: u32) -> Self {
        Self {
            index,
            schema: descriptor.change_schema(),
            max_parallelism,
            slots: Vec::new(),
            kinds: Vec::new(),
            out: Out::Batches(Vec::new()),
        }
    }

    /// One that gives the columns of [`Self::flush`] to `take`, without keys and kinds.
    pub(crate) fn of_columns(
        index: &'a KeyIndex,
        descriptor: &TableDescriptor,
        take: &'a mut TakeColumns<'a>,
    ) -> Self {
        Self {
            out: Out::Columns(take),
            ..Self::new(index, descriptor, 1)
        }
    }

    /// One more row.
    #[inline]
    pub(crate) fn note(&mut self, slot: Slot, kind: ChangeKind) {
        self.slots.push(slot);
        self.kinds.push(kind as i8);
    }

    /// Whether the rows so far, whose values are so many bytes, should be flushed.
    #[inline]
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        self.slots.len() >= BATCH_ROWS || bytes >= BATCH_BYTES
    }

    /// How many rows a batch should have at most.
    pub(crate) fn batch_rows(&self) -> usize {
        BATCH_ROWS
    }

    /// Makes a batch of the rows so far; `columns` are the table's sub-key and value columns.
    pub(crate) fn flush(&mut self, columns: Vec<ArrayRef>) -> Result<(), StateError> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let batches = match &mut self.out {
            Out::Batches(batches) => batches,
            Out::Columns(take) => {
                take(&self.slots, columns)?;
                self.slots.clear();
                self.kinds.clear();
                return Ok(());
            }
        };
        let hashes = self.index.hashes(&self.slots).map_err(key_error)?;
        let groups = hashes.iter().map(|hash| key_group(*hash, self.max_parallelism));
        let mut all: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(groups)),
            Arc::new(UInt64Array::from(hashes)),
            Arc::new(Int8Array::from(std::mem::take(&mut self.kinds))),
        ];
        all.extend(self.index.keys(&self.slots).map_err(key_error)?);
        all.extend(columns);
        self.slots.clear();
        let batch =
            RecordBatch::try_new(Arc::clone(&self.schema), all).map_err(|source| StateError::Arrow {
                step: "building a snapshot's batch",
                source,
            })?;
        batches.push(batch);
        Ok(())
    }

    pub(crate) fn finish(self) -> Vec<RecordBatch> {
        match self.out {
            Out::Batches(batches) => batches,
            Out::Columns(_) => Vec::new(),
        }
    }
}

/// Keys of the index that can't be columns again.
pub(crate) fn key_error(error: KeyIndexError) -> StateError {
    match error {
        KeyIndexError::Encode(source) => StateError::Arrow {
            step: "encoding keys",
            source,
        },
        KeyIndexError::Full => StateError::Memory {
            message: error.to_string(),
        },
    }
}
