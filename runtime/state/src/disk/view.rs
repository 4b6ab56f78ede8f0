//! All that the runs held at one time, streamed into a checkpoint's file: a full snapshot without a copy in memory.
//!
//! Invariant: a few pages of each run and one block are held.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::codec::{KeyCodec, TableCodec, accessed_of, group_of};
use super::merge::MergedRuns;
use super::page::rows_of;
use super::run::LocalRun;
use super::snapshot_run::SnapshotRun;
use crate::file::builder::FileBuilder;
use crate::run::Scope;
use crate::run::encode::write_block;
use crate::snapshot::StateError;

/// The newest entry of each key in these runs.
pub(crate) struct StoreView {
    /// Oldest first.
    pub(crate) runs: Vec<Arc<LocalRun>>,
    /// Newer than those.
    pub(crate) resident: Arc<SnapshotRun>,
    pub(crate) keys: Arc<KeyCodec>,
    pub(crate) tables: Arc<Vec<TableCodec>>,
    /// Rows that are expired then are left out.
    pub(crate) now_ms: i64,
}

impl std::fmt::Debug for StoreView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreView of {} runs", self.runs.len())
    }
}

impl StoreView {
    /// Writes the rows of the table, which was begun in `builder`. Waits for the run that is still being written.
    pub(crate) fn write_table(
        &self,
        table: usize,
        scope: &Scope,
        builder: &mut FileBuilder<'_>,
    ) -> Result<(), StateError> {
        let Some(codec) = self.tables.get(table) else {
            return Ok(());
        };
        let expired_until = codec.expired_until(self.now_ms);
        let mut runs = self.runs.clone();
        runs.extend(self.resident.wait()?);
        let mut merged = MergedRuns::new(&runs)?;
        let mut block = Block::new(&self.keys, codec);
        while let Some(entry) = merged.next()? {
            let group = group_of(entry.key);
            for (_, row) in rows_of(entry.rows).filter(|(number, _)| *number == table) {
                if codec.has_ttl && accessed_of(row) <= expired_until {
                    continue;
                }
                let bytes = block.bytes.len() + entry.key.len() + row.len();
                let half_full =
                    block.bytes.len() > scope.block_bytes / 2 && block.last_group() != Some(group);
                if !block.groups.is_empty() && (bytes > scope.block_bytes || half_full) {
                    block.write(builder)?;
                }
                block.push(group, entry.key, row);
            }
        }
        block.write(builder)
    }
}

/// Rows until they are a block.
struct Block<'a> {
    keys: &'a KeyCodec,
    codec: &'a TableCodec,
    groups: Vec<u32>,
    /// Key and row of each row, one behind another.
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl<'a> Block<'a> {
    fn new(keys: &'a KeyCodec, codec: &'a TableCodec) -> Self {
        Self {
            keys,
            codec,
            groups: Vec::new(),
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn last_group(&self) -> Option<u32> {
        self.groups.last().copied()
    }

    fn push(&mut self, group: u32, key: &[u8], row: &[u8]) {
        self.groups.push(group);
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn write(&mut self, builder: &mut FileBuilder<'_>) -> Result<(), StateError> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let mut start = 0;
        let mut keys: Vec<&[u8]> = Vec::with_capacity(self.ends.len());
        let mut rows: Vec<&[u8]> = Vec::with_capacity(self.ends.len());
        for (key_end, end) in &self.ends {
            keys.push(&self.bytes[start..*key_end]);
            rows.push(&self.bytes[*key_end..*end]);
            start = *end;
        }
        let mut columns: Vec<ArrayRef> = self.keys.decode(keys.into_iter())?;
        let decoded = self.codec.decode(&rows)?;
        columns.extend(decoded.sub_key);
        columns.extend(decoded.value);
        columns.extend(decoded.accessed.map(|accessed| Arc::new(accessed) as ArrayRef));
        write_block(
            builder,
            &self.codec.descriptor,
            columns,
            false,
            &self.groups,
            &|_| true,
        )?;
        self.groups.clear();
        self.bytes.clear();
        self.ends.clear();
        Ok(())
    }
}
