//! Snapshots of state with a disk: what changed, or all of it without a copy in memory.
//!
//! ```text
//!   full:  the runs as they are ----------------------------------------------> StoreView --written by the upload--> file
//!          rows in memory --columns, some keys at a time--> "state-write" --> a run of this snapshot alone --/
//! ```
//!
//! The task only copies columns. It waits for the thread that encodes and writes them if they are more than half of the memory that is
//! free; all else, as the end of the run, the upload waits for. A run that can't be written costs the checkpoint, not the task.
//!
//! Invariants: the store has nothing of such a run, and what is on its way to the disk goes on; a key that has lost its rows and is on
//! disk is said to have none.

use std::sync::Arc;

use super::KeyedState;
use super::page_out::PageOut;
use super::paging::{ON_DISK, OUT, Paging, WRITING};
use crate::disk::snapshot_run::SnapshotRun;
use crate::disk::write_out::{Columns, Piece, QUEUED};
use crate::key_index::Slot;
use crate::settings::DiskSettings;
use crate::snapshot::{StateError, Stored, StoredRows, TableSnapshot};
use crate::table::{ChangeWriter, Table};

/// Pieces of a snapshot that may wait to be written, at most.
const MOST_QUEUED: usize = 4096;

impl KeyedState {
    /// The tables and timers for a checkpoint.
    pub(super) fn snapshot_with_disk(&mut self, full: bool) -> Result<Vec<TableSnapshot>, StateError> {
        self.cut_page_out();
        let is_small = self.used() <= self.config.settings.memory_bytes / 2;
        let Some(disk) = &mut self.disk else {
            return Ok(Vec::new());
        };
        let pending = disk.page_out.as_mut().and_then(PageOut::take_deltas);
        let deltas = disk.store.take_deltas(pending.filter(|_| self.tracking));
        let snapshots = match full {
            true if !is_small || !disk.store.is_empty() => {
                let resident = self.write_resident()?;
                self.snapshot_of_disk(resident)?
            }
            true => self.take_changes(true)?,
            false => {
                let mut snapshots = self.take_changes(false)?;
                if let Some(deltas) = deltas {
                    let deltas = Arc::new(deltas);
                    for table in &mut snapshots {
                        table.stored = StoredRows(Some(Stored::Deltas(Arc::clone(&deltas))));
                    }
                }
                snapshots
            }
        };
        self.release_vacant();
        Ok(snapshots)
    }

    /// Without a disk: a full snapshot of which memory has no room for a copy goes through files of its own; None if it has, or if that
    /// can't be done. What is in the files goes away with the snapshot.
    pub(super) fn snapshot_through_scratch(&mut self) -> Result<Option<Vec<TableSnapshot>>, StateError> {
        let limit = self.config.settings.memory_bytes;
        let Some(scratch) = self.config.settings.scratch.clone() else {
            return Ok(None);
        };
        // A copy is about as large as what it is of.
        if self.used() <= limit / 2 {
            return Ok(None);
        }
        let paging = scratch.folder().and_then(|folder| {
            let disk = DiskSettings {
                folder,
                resident_bytes: usize::MAX,
                wait_bytes: usize::MAX,
            };
            Paging::new(&self.config, &disk)
        });
        let snapshots = paging.and_then(|mut paging| {
            paging.resize(self.index.slot_count());
            paging.set_now(self.now_ms);
            self.disk = Some(Box::new(paging));
            // Nobody would count what still waits to be written.
            let written = self.write_resident().and_then(|resident| {
                resident.wait()?;
                self.snapshot_of_disk(resident)
            });
            self.disk = None;
            written
        });
        match snapshots {
            Ok(snapshots) => Ok(Some(snapshots)),
            Err(error @ StateError::LocalDisk { .. }) => {
                tracing::warn!(operator = %self.config.operator, %error, "a full snapshot is copied in memory");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Has the rows that are in memory written as a run of their own.
    fn write_resident(&mut self) -> Result<Arc<SnapshotRun>, StateError> {
        self.prepare_codecs()?;
        let slots: Vec<Slot> = (0..self.index.slot_count() as Slot)
            .filter(|slot| self.index.is_live(*slot) && !self.is_out(*slot))
            .collect();
        let slots = self.by_group(&slots)?;
        let limit = self.config.settings.memory_bytes;
        let free = limit.saturating_sub(self.memory_size());
        let mut pieces = slots.chunks(self.sent_keys());
        let Some(first) = pieces.next() else {
            return Ok(Arc::default());
        };
        let first = self.copy_of(first)?;
        let queued = (free / 2 / first.bytes().max(1)).clamp(QUEUED, MOST_QUEUED);
        let Some(disk) = &self.disk else {
            return Ok(Arc::default());
        };
        let mut writer = disk.store.write_out(slots.len(), queued, usize::MAX)?;
        writer.send(first);
        for slots in pieces {
            writer.send(self.copy_of(slots)?);
        }
        writer.close();
        let run = Arc::new(SnapshotRun::of(writer));
        if let Some(disk) = &mut self.disk {
            disk.snapshots.push(Arc::clone(&run));
        }
        Ok(run)
    }

    fn is_out(&self, slot: Slot) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.is(slot, OUT))
    }

    /// The rows of these keys as they are.
    fn copy_of(&mut self, slots: &[Slot]) -> Result<Piece, StateError> {
        let (tables, index) = (&mut self.tables, &self.index);
        let mut rows = Vec::with_capacity(tables.len());
        for table in tables {
            let descriptor = Arc::clone(table.descriptor());
            let mut parts: Vec<Columns> = Vec::new();
            let mut take = |slots: &[Slot], columns| {
                parts.push((slots.to_vec(), columns));
                Ok(())
            };
            let mut out = ChangeWriter::of_columns(index, &descriptor, &mut take);
            table.image(slots, &mut out)?;
            rows.push(parts);
        }
        let disk = self.disk.as_deref();
        let is_on_disk = |slot: &Slot| disk.is_some_and(|disk| disk.is(*slot, ON_DISK | WRITING));
        Ok(Piece {
            keys: self.keys(slots)?,
            groups: self.groups_of_slots(slots)?,
            slots: slots.to_vec(),
            on_disk: slots.iter().map(is_on_disk).collect(),
            rows,
            changes: Vec::new(),
        })
    }

    /// All rows: those of the runs as they are, under those that were in memory.
    fn snapshot_of_disk(&mut self, resident: Arc<SnapshotRun>) -> Result<Vec<TableSnapshot>, StateError> {
        let Some(disk) = &mut self.disk else {
            return Ok(Vec::new());
        };
        let view = Arc::new(disk.store.view(resident, disk.now_ms));
        let mut snapshots = Vec::with_capacity(self.tables.len() + 1);
        for (number, table) in self.tables.iter_mut().enumerate() {
            table.mark_saved();
            snapshots.push(TableSnapshot {
                descriptor: Arc::clone(table.descriptor()),
                changes: Vec::new(),
                stored: StoredRows(Some(Stored::Table(Arc::clone(&view), number))),
            });
        }
        let descriptor = Arc::clone(self.timers.descriptor());
        let mut out = ChangeWriter::new(&self.index, &descriptor, self.config.max_parallelism);
        self.timers.changes(true, &mut out)?;
        snapshots.push(TableSnapshot {
            changes: out.finish(),
            descriptor,
            stored: StoredRows::default(),
        });
        Ok(snapshots)
    }
}
