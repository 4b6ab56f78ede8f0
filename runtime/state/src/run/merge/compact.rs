//! Compaction: what neighbouring runs amount to, as one run.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int8Array};
use arrow::compute::concat;
use arrow::datatypes::Int64Type;
use thalweg_types::key_group::key_group;

use super::{Deletes, MergedBatch, TableMerge, merging, tables_of};
use crate::file::builder::{FileBuilder, FileSummary, Sink, column_bytes};
use crate::file::reader::StateFileReader;
use crate::run::Scope;
use crate::run::encode::write_block;
use crate::{ChangeKind, StateError, TableDescriptor, TableKind};

/// Writes what these neighbouring runs, oldest first, amount to as one run.
pub(crate) fn merge_into_run(
    runs: &[StateFileReader],
    scope: &Scope,
    deletes: Deletes,
    sink: &mut dyn Sink,
) -> Result<FileSummary, StateError> {
    let mut builder = FileBuilder::new(scope.max_parallelism, scope.block_bytes, sink)?;
    for descriptor in tables_of(runs) {
        builder.begin_table(&descriptor)?;
        let mut merge = TableMerge::new(&descriptor, runs, scope, deletes)?;
        let mut writer = MergedWriter {
            builder: &mut builder,
            descriptor: &descriptor,
            scope,
            collected: Vec::new(),
            bytes: 0,
        };
        while let Some(batch) = merge.next_batch()? {
            writer.push(match deletes {
                Deletes::Drop => batch.without_expired(&descriptor, scope.now_ms)?,
                Deletes::Keep => batch,
            })?;
        }
        writer.flush()?;
    }
    builder.finish()
}

impl MergedBatch {
    /// Without rows of values and maps whose time-to-live is over. A list's positions count on from those that are there.
    fn without_expired(self, descriptor: &TableDescriptor, now_ms: i64) -> Result<Self, StateError> {
        let is_one_by_one = matches!(descriptor.kind, TableKind::Value | TableKind::Map);
        let (Some(ttl), Some(accessed)) = (descriptor.ttl, self.columns.last()) else {
            return Ok(self);
        };
        let Some(accessed) = accessed.as_primitive_opt::<Int64Type>() else {
            return Ok(self);
        };
        let time = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let until = now_ms.saturating_sub(time);
        // Null: it had no time-to-live when it was stored.
        let is_kept = |accessed: Option<i64>| accessed.is_none_or(|accessed| accessed > until);
        if !is_one_by_one || now_ms == i64::MIN || accessed.iter().all(is_kept) {
            return Ok(self);
        }
        let kept = BooleanArray::from_iter(accessed.iter().map(|accessed| Some(is_kept(accessed))));
        self.filtered(&kept)
    }
}

/// Merged batches are cut by rows, blocks by bytes: collects batches until they are a block.
struct MergedWriter<'a, 'sink> {
    builder: &'a mut FileBuilder<'sink>,
    descriptor: &'a TableDescriptor,
    scope: &'a Scope,
    collected: Vec<MergedBatch>,
    bytes: usize,
}

impl MergedWriter<'_, '_> {
    fn push(&mut self, batch: MergedBatch) -> Result<(), StateError> {
        let bytes: usize = batch.columns.iter().map(column_bytes).sum();
        if !self.collected.is_empty() && self.bytes + bytes > self.scope.block_bytes {
            self.flush()?;
        }
        self.bytes += bytes;
        if !batch.hashes.is_empty() {
            self.collected.push(batch);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StateError> {
        let batches = std::mem::take(&mut self.collected);
        self.bytes = 0;
        let Some(first) = batches.first() else {
            return Ok(());
        };
        let with_changes = batches.iter().any(|batch| batch.changes.is_some());
        let kinds: Vec<i8> = match with_changes {
            false => Vec::new(),
            true => batches
                .iter()
                .flat_map(|batch| match &batch.changes {
                    Some(changes) => changes.clone(),
                    None => vec![ChangeKind::Upsert as i8; batch.hashes.len()],
                })
                .collect(),
        };
        let groups: Vec<u32> = batches
            .iter()
            .flat_map(|batch| &batch.hashes)
            .map(|hash| key_group(*hash, self.scope.max_parallelism))
            .collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        if with_changes {
            columns.push(Arc::new(Int8Array::from(kinds.clone())));
        }
        for column in 0..first.columns.len() {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| &*batch.columns[column]).collect();
            columns.push(concat(&parts).map_err(merging)?);
        }
        let is_upsert = |row: usize| !with_changes || kinds[row] == ChangeKind::Upsert as i8;
        write_block(
            self.builder,
            self.descriptor,
            columns,
            with_changes,
            &groups,
            &is_upsert,
        )
    }
}
