//! Keyed state on its way to the disk: cold keys, and all of it for a full snapshot.
//!
//! ```text
//!   choose cold keys, by key group --------> CHOSEN
//!   some at each batch: columns of them ---> WRITING --sent to the thread that writes (disk/write_out)
//!        one that was used meanwhile stays in memory and is not written
//!   the run is there: some at each batch --> the tables forget them; the slot is free, unless the key has timers
//!        one that was used meanwhile stays in memory: what the run has of it is old, as of any key in memory
//! ```
//!
//! So rows stay where they are until they are on disk, nobody reads what is being written, and a batch pays for a few thousand keys at most.
//! It waits for the disk only if memory in use passes [`DiskSettings::wait_bytes`] meanwhile.
//!
//! Invariants: one write-out at a time; a slot that is CHOSEN or WRITING is its key's until that is over; a WRITING slot
//! that was not used since (`USED`, `HELD`) is as it was sent, and what the next snapshot says of it is in the delta files.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::KeyedState;
use super::paging::{CHOSEN, EMPTIED, HELD, ON_DISK, OUT, Paging, USED, WRITES_ROWS, WRITING};
use crate::disk::write_out::{Columns, Piece, WriteOut};
use crate::key_index::Slot;
use crate::settings::DiskSettings;
use crate::snapshot::{StateError, Stored, StoredRows, TableSnapshot};
use crate::table::{ChangeWriter, Table};

/// Keys that a batch sends, and that it lets go.
const SENT_KEYS: usize = 4096;
const EVICTED_KEYS: usize = 8192;
/// Bytes of rows that wait for the thread; changes are written when they are as many times this as [`DELTA_PIECES`].
const MOST_QUEUED_BYTES: usize = 8 << 20;
const DELTA_PIECES: usize = 4;

/// Keys on their way out.
pub(super) struct PageOut {
    /// By key group.
    slots: Vec<Slot>,
    /// How many of them were sent, or are not to be.
    sent: usize,
    /// How many of those are done with.
    evicted: usize,
    /// None: the run is there.
    writer: Option<WriteOut>,
    /// A checkpoint has the delta files.
    deltas_taken: bool,
    /// For a full snapshot: all keys are written and stay.
    keeps: bool,
}

impl PageOut {
    pub(super) fn memory_size(&self) -> usize {
        let writer = self.writer.as_ref().map_or(0, WriteOut::memory_size);
        writer + self.slots.capacity() * size_of::<Slot>()
    }
}

impl KeyedState {
    pub(super) fn is_paging_out(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.page_out.is_some())
    }

    /// Writes so many keys out that were not used lately, and waits for it; false if there are none.
    pub(super) fn page_out_now(&mut self, count: usize) -> Result<bool, StateError> {
        self.finish_page_out()?;
        let started = self.start_page_out(count)?;
        self.finish_page_out()?;
        Ok(started)
    }

    /// Begins to write out so many keys that were not used lately; false if there are none.
    pub(super) fn start_page_out(&mut self, count: usize) -> Result<bool, StateError> {
        let slots = self.choose_cold(count);
        if slots.is_empty() {
            return Ok(false);
        }
        self.start_writing(&slots, false)?;
        Ok(true)
    }

    fn start_writing(&mut self, slots: &[Slot], keeps: bool) -> Result<(), StateError> {
        self.prepare_codecs()?;
        let slots = self.by_group(slots)?;
        let delta_bytes = DELTA_PIECES * self.most_queued_bytes();
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        disk.page_out = Some(PageOut {
            writer: Some(disk.store.write_out(slots.len(), delta_bytes)?),
            slots,
            sent: 0,
            evicted: 0,
            deltas_taken: false,
            keeps,
        });
        Ok(())
    }

    fn most_queued_bytes(&self) -> usize {
        (self.config.settings.memory_bytes / 32).clamp(4 << 10, MOST_QUEUED_BYTES)
    }

    /// By the clock algorithm: a key that was used gets a second chance. Keys without rows, which take a slot for nothing, come first.
    fn choose_cold(&mut self, count: usize) -> Vec<Slot> {
        let Some(disk) = &mut self.disk else {
            return Vec::new();
        };
        let mut chosen = Vec::new();
        for slot in std::mem::take(&mut disk.emptied) {
            let flags = &mut disk.flags[slot as usize];
            if *flags & HELD != 0 {
                disk.emptied.push(slot);
            } else if self.index.is_live(slot) && *flags & (OUT | EMPTIED | CHOSEN) == EMPTIED {
                *flags = *flags & !USED | CHOSEN;
                chosen.push(slot);
            }
        }
        let slots = self.index.slot_count();
        for _ in 0..2 * slots {
            if chosen.len() >= count {
                break;
            }
            disk.hand = (disk.hand + 1) % slots;
            let flags = &mut disk.flags[disk.hand];
            if !self.index.is_live(disk.hand as Slot) || *flags & (OUT | HELD | CHOSEN) != 0 {
                continue;
            }
            if *flags & USED != 0 {
                *flags &= !USED;
                continue;
            }
            *flags |= CHOSEN;
            chosen.push(disk.hand as Slot);
        }
        chosen
    }

    /// The slots, those of a key group behind each other.
    fn by_group(&self, slots: &[Slot]) -> Result<Vec<Slot>, StateError> {
        let first = self.config.key_groups.start;
        let mut groups = self.groups_of_slots(slots)?;
        groups.iter_mut().for_each(|group| *group -= first);
        let mut next = vec![0; (self.config.key_groups.end - first) as usize + 2];
        for group in &groups {
            next[*group as usize + 1] += 1;
        }
        for group in 1..next.len() {
            next[group] += next[group - 1];
        }
        let mut sorted = vec![0; slots.len()];
        for (slot, group) in slots.iter().zip(groups) {
            let place: &mut usize = &mut next[group as usize];
            sorted[*place] = *slot;
            *place += 1;
        }
        Ok(sorted)
    }

    /// What is being written is written a bit further; `wait` says whether to wait for the disk.
    pub(super) fn step_page_out(&mut self, wait: bool) -> Result<(), StateError> {
        let Some(mut out) = self.disk.as_mut().and_then(|disk| disk.page_out.take()) else {
            return Ok(());
        };
        if let Some(writer) = &mut out.writer {
            if out.sent < out.slots.len() {
                if wait || writer.queued_bytes() < self.most_queued_bytes() {
                    let keys = self.keys_in(self.most_queued_bytes() / 2).clamp(1, SENT_KEYS);
                    let end = (out.sent + keys).min(out.slots.len());
                    if let Some(piece) = self.piece(&out.slots[out.sent..end], out.keeps)? {
                        writer.send(piece);
                    }
                    out.sent = end;
                }
            } else {
                writer.close();
                let written = match wait {
                    true => Some(writer.wait()?),
                    false => writer.poll()?,
                };
                if let Some(run) = written
                    && let Some(disk) = &mut self.disk
                {
                    if !out.deltas_taken {
                        disk.store.add_deltas(writer.deltas().wait()?)?;
                    }
                    disk.store.add_run(run, disk.now_ms)?;
                    out.writer = None;
                }
            }
        } else {
            let end = (out.evicted + EVICTED_KEYS).min(out.sent);
            self.evict(&out.slots[out.evicted..end], out.keeps);
            out.evicted = end;
        }
        let is_done = out.writer.is_none() && out.evicted == out.sent;
        if let Some(disk) = &mut self.disk
            && !is_done
        {
            disk.page_out = Some(out);
        }
        Ok(())
    }

    /// Waits until what is being written out is on disk, and out of memory.
    pub(super) fn finish_page_out(&mut self) -> Result<(), StateError> {
        while self.is_paging_out() {
            self.step_page_out(true)?;
        }
        Ok(())
    }

    /// What was not sent yet stays in memory: a snapshot is made.
    fn cut_page_out(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let Paging {
            page_out: Some(out),
            flags,
            emptied,
            ..
        } = &mut **disk
        else {
            return;
        };
        for slot in out.slots.drain(out.sent..) {
            stays(&mut flags[slot as usize], slot, emptied);
        }
        if let Some(writer) = &mut out.writer {
            writer.close();
        }
    }

    /// The rows of these keys, and what changed of them; without those that were used since they were chosen, unless all are
    /// asked for.
    fn piece(&mut self, slots: &[Slot], all: bool) -> Result<Option<Piece>, StateError> {
        let Self {
            disk: Some(disk),
            tables,
            index,
            config,
            ..
        } = self
        else {
            return Ok(None);
        };
        let Paging { flags, emptied, .. } = &mut **disk;
        let mut chosen = Vec::with_capacity(slots.len());
        let mut on_disk = Vec::with_capacity(slots.len());
        for slot in slots {
            let flags = &mut flags[*slot as usize];
            if !all && *flags & (USED | HELD) != 0 {
                stays(flags, *slot, emptied);
            } else if *flags & CHOSEN != 0 {
                *flags = *flags & !CHOSEN | WRITING;
                chosen.push(*slot);
                on_disk.push(*flags & ON_DISK != 0);
            }
        }
        if chosen.is_empty() {
            return Ok(None);
        }
        let mut changes = Vec::new();
        let mut rows = Vec::with_capacity(tables.len());
        for table in tables.iter_mut() {
            let descriptor = Arc::clone(table.descriptor());
            if self.tracking && !all {
                let mut out = ChangeWriter::new(index, &descriptor, config.max_parallelism);
                table.changes_of(&chosen, &mut out)?;
                changes.push(TableSnapshot {
                    changes: out.finish(),
                    descriptor: Arc::clone(&descriptor),
                    stored: StoredRows::default(),
                });
            }
            let mut parts: Vec<Columns> = Vec::new();
            let mut take = |slots: &[Slot], columns: Vec<ArrayRef>| {
                for slot in slots {
                    let flags = &mut flags[*slot as usize];
                    *flags = *flags & !EMPTIED | WRITES_ROWS;
                }
                parts.push((slots.to_vec(), columns));
                Ok(())
            };
            let mut out = ChangeWriter::of_columns(index, &descriptor, &mut take);
            table.image(&chosen, &mut out)?;
            rows.push(parts);
        }
        Ok(Some(Piece {
            keys: self.keys(&chosen)?,
            groups: self.groups_of_slots(&chosen)?,
            slots: chosen,
            on_disk,
            rows,
            changes,
        }))
    }

    /// The run has these keys: those that were not used since go out of memory.
    fn evict(&mut self, slots: &[Slot], keeps: bool) {
        let Some(disk) = &mut self.disk else { return };
        let mut evicted = Vec::with_capacity(slots.len());
        for slot in slots {
            let flags = &mut disk.flags[*slot as usize];
            if *flags & WRITING == 0 {
                continue;
            }
            let has_rows = *flags & WRITES_ROWS != 0;
            let is_emptied = *flags & EMPTIED != 0;
            *flags &= !(WRITING | WRITES_ROWS | ON_DISK);
            if has_rows {
                *flags |= ON_DISK;
            }
            // One that lost its rows meanwhile waits for the next run to say so.
            if !keeps && *flags & (USED | HELD) == 0 && !(is_emptied && has_rows) {
                evicted.push(*slot);
            } else if is_emptied && !has_rows {
                // The run has said it.
                *flags &= !EMPTIED;
                self.vacated.push(*slot);
            }
        }
        for table in &mut self.tables {
            table.evict(&evicted);
        }
        for slot in evicted {
            let has_timers = !self.timers.is_vacant(slot);
            let Some(disk) = &mut self.disk else { return };
            let flags = &mut disk.flags[slot as usize];
            if has_timers {
                *flags = *flags & ON_DISK | OUT;
                disk.out += 1;
            } else {
                *flags = 0;
                self.all_tables().for_each(|table| table.release(slot));
                self.index.remove(slot);
            }
        }
    }

    /// The tables and timers for a checkpoint.
    pub(super) fn snapshot_with_disk(&mut self, full: bool) -> Result<Vec<TableSnapshot>, StateError> {
        self.cut_page_out();
        if full {
            self.finish_page_out()?;
        }
        let is_small = self.used() <= self.config.settings.memory_bytes / 2;
        let Some(disk) = &mut self.disk else {
            return Ok(Vec::new());
        };
        let written = disk.page_out.as_mut().filter(|out| !out.deltas_taken);
        let pending = written.and_then(|out| {
            let writer = out.writer.as_ref()?;
            out.deltas_taken = true;
            Some(Arc::clone(writer.deltas()))
        });
        let deltas = disk.store.take_deltas(pending.filter(|_| self.tracking));
        let snapshots = match full {
            true if !is_small || !disk.store.is_empty() => self.snapshot_of_disk()?,
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
            let snapshots = self.snapshot_of_disk();
            self.disk = None;
            snapshots
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

    /// A full snapshot without a copy in memory: what is in memory is written out too, and stays.
    fn snapshot_of_disk(&mut self) -> Result<Vec<TableSnapshot>, StateError> {
        let Some(disk) = &mut self.disk else {
            return Ok(Vec::new());
        };
        disk.emptied.clear();
        let mut slots = Vec::new();
        for slot in 0..self.index.slot_count() as Slot {
            if self.index.is_live(slot) && !disk.is(slot, OUT) {
                disk.flags[slot as usize] |= CHOSEN;
                slots.push(slot);
            }
        }
        self.start_writing(&slots, true)?;
        self.finish_page_out()?;
        let Some(disk) = &mut self.disk else {
            return Ok(Vec::new());
        };
        let view = Arc::new(disk.store.view(disk.now_ms));
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

/// A key that was chosen is not written after all.
fn stays(flags: &mut u8, slot: Slot, emptied: &mut Vec<Slot>) {
    if *flags & CHOSEN != 0 {
        *flags &= !CHOSEN;
        if *flags & EMPTIED != 0 {
            emptied.push(slot);
        }
    }
}
