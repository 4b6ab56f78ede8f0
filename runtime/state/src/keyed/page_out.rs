//! Keyed state on its way to the disk: cold keys.
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
use crate::disk::write_out::{Columns, PendingDeltas, Piece, QUEUED, WriteOut};
use crate::key_index::Slot;
use crate::snapshot::{StateError, StoredRows, TableSnapshot};
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
}

impl PageOut {
    /// What the next checkpoint must say of the keys that went out, if no checkpoint has it yet: to be asked once.
    pub(super) fn take_deltas(&mut self) -> Option<Arc<PendingDeltas>> {
        let writer = self.writer.as_ref().filter(|_| !self.deltas_taken)?;
        self.deltas_taken = true;
        Some(Arc::clone(writer.deltas()))
    }

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
        self.prepare_codecs()?;
        let slots = self.by_group(&slots)?;
        let delta_bytes = DELTA_PIECES * self.most_queued_bytes();
        if let Some(disk) = &mut self.disk {
            disk.page_out = Some(PageOut {
                writer: Some(disk.store.write_out(slots.len(), QUEUED, delta_bytes)?),
                slots,
                sent: 0,
                evicted: 0,
                deltas_taken: false,
            });
        }
        Ok(true)
    }

    /// How many keys are sent together.
    pub(super) fn sent_keys(&self) -> usize {
        self.keys_in(self.most_queued_bytes() / 2).clamp(1, SENT_KEYS)
    }

    pub(super) fn most_queued_bytes(&self) -> usize {
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
    pub(super) fn by_group(&self, slots: &[Slot]) -> Result<Vec<Slot>, StateError> {
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
                    let end = (out.sent + self.sent_keys()).min(out.slots.len());
                    if let Some(piece) = self.piece(&out.slots[out.sent..end])? {
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
            self.evict(&out.slots[out.evicted..end]);
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
    pub(super) fn cut_page_out(&mut self) {
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

    /// The rows of these keys, and what changed of them; without those that were used since they were chosen.
    fn piece(&mut self, slots: &[Slot]) -> Result<Option<Piece>, StateError> {
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
            if *flags & (USED | HELD) != 0 {
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
            if self.tracking {
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
    fn evict(&mut self, slots: &[Slot]) {
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
            if *flags & (USED | HELD) == 0 && !(is_emptied && has_rows) {
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
