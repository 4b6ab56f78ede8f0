//! Keyed state on its way to the disk: cold keys, and all of it for a full snapshot.
//!
//! ```text
//!   slots --by key group, then key, some at a time--> TableImage of each table --key by key--> RunWriter
//! ```

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::KeyedState;
use super::paging::{CHOSEN, EMPTIED, HELD, ON_DISK, OUT, USED};
use crate::disk::codec::Keys;
use crate::disk::image::TableImage;
use crate::disk::page::Entry;
use crate::disk::run::RunWriter;
use crate::key_index::Slot;
use crate::snapshot::{StateError, Stored, StoredRows, TableSnapshot};
use crate::table::{ChangeWriter, Table};

/// Keys that are sorted together, at least a key group.
const SORT_KEYS: usize = 1 << 15;
/// Bytes of rows that are collected before they are written, about.
const COLLECT_BYTES: usize = 8 << 20;

impl KeyedState {
    /// Writes so many keys out that were not used lately; false if there are none.
    pub(super) fn page_out_cold(&mut self, count: usize) -> Result<bool, StateError> {
        let slots = self.choose_cold(count);
        if slots.is_empty() {
            return Ok(false);
        }
        self.page_out(slots)?;
        Ok(true)
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
            } else if self.index.is_live(slot) && *flags & (OUT | EMPTIED) == EMPTIED {
                *flags |= CHOSEN;
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

    /// Writes these keys out. All of them have their rows in memory.
    fn page_out(&mut self, slots: Vec<Slot>) -> Result<(), StateError> {
        self.keep_changes()?;
        self.write_images(slots.clone())?;
        for table in &mut self.tables {
            table.evict(&slots);
        }
        for slot in slots {
            let has_timers = !self.timers.is_vacant(slot);
            let Some(disk) = &mut self.disk else {
                return Ok(());
            };
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
        Ok(())
    }

    /// What the next snapshot must say goes to a file: the rows are unchanged from now on.
    fn keep_changes(&mut self) -> Result<(), StateError> {
        if !self.tracking {
            return Ok(());
        }
        let changes = self.take_changes(false)?;
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        match changes.iter().all(|table| table.changes.is_empty()) {
            true => Ok(()),
            false => disk.store.add_delta(&changes),
        }
    }

    /// Writes all rows of these keys as the newest run.
    fn write_images(&mut self, mut slots: Vec<Slot>) -> Result<(), StateError> {
        self.prepare_codecs()?;
        let at_a_time = self.keys_in(COLLECT_BYTES).max(1);
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let mut writer = disk.store.new_run(slots.len())?;
        slots.sort_unstable_by_key(|slot| self.group_of_slot(*slot));
        let mut rest = &slots[..];
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(self.whole_groups(rest));
            rest = behind;
            let keys = self.keys_of_slots(part)?;
            let mut order: Vec<usize> = (0..part.len()).collect();
            order.sort_unstable_by_key(|place| keys.get(*place));
            for order in order.chunks(at_a_time) {
                self.write_sorted(part, &keys, order, &mut writer)?;
            }
        }
        let run = writer.finish()?;
        match &mut self.disk {
            Some(disk) => disk.store.add_run(run, disk.now_ms),
            None => Ok(()),
        }
    }

    /// How many of the first slots, which are sorted by group, are whole groups that can be sorted together.
    fn whole_groups(&self, slots: &[Slot]) -> usize {
        let Some(last) = slots.get(SORT_KEYS) else {
            return slots.len();
        };
        let group = self.group_of_slot(*last);
        match slots.partition_point(|slot| self.group_of_slot(*slot) < group) {
            0 => slots.partition_point(|slot| self.group_of_slot(*slot) <= group),
            whole => whole,
        }
    }

    fn write_sorted(
        &mut self,
        slots: &[Slot],
        keys: &Keys,
        order: &[usize],
        writer: &mut RunWriter,
    ) -> Result<(), StateError> {
        let Self {
            disk: Some(disk),
            tables,
            index,
            ..
        } = self
        else {
            return Ok(());
        };
        let sorted: Vec<Slot> = order.iter().map(|place| slots[*place]).collect();
        let mut images = Vec::with_capacity(tables.len());
        for (table, codec) in tables.iter_mut().zip(disk.store.tables.iter()) {
            let mut image = TableImage::new(codec);
            let descriptor = Arc::clone(table.descriptor());
            let mut take = |slots: &[Slot], columns: Vec<ArrayRef>| image.push(slots, columns);
            let mut out = ChangeWriter::of_columns(index, &descriptor, &mut take);
            table.image(&sorted, &mut out)?;
            images.push(image);
        }
        let mut rows = Vec::new();
        for (slot, place) in sorted.iter().zip(order) {
            rows.clear();
            for (number, image) in images.iter_mut().enumerate() {
                image.take(*slot, number, &mut rows);
            }
            let flags = &mut disk.flags[*slot as usize];
            if rows.is_empty() && *flags & ON_DISK == 0 {
                continue;
            }
            *flags = match rows.is_empty() {
                true => *flags & !ON_DISK,
                false => *flags | ON_DISK,
            };
            writer.push(Entry {
                key: keys.get(*place),
                rows: &rows,
            })?;
        }
        Ok(())
    }

    /// The tables and timers for a checkpoint.
    pub(super) fn snapshot_with_disk(&mut self, full: bool) -> Result<Vec<TableSnapshot>, StateError> {
        let is_small = self.used() <= self.config.settings.memory_bytes / 2;
        let Some(disk) = &mut self.disk else {
            return Ok(Vec::new());
        };
        let deltas = disk.store.take_deltas();
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

    /// A full snapshot without a copy in memory: what is in memory is written out too, and stays.
    fn snapshot_of_disk(&mut self) -> Result<Vec<TableSnapshot>, StateError> {
        let Some(disk) = &self.disk else {
            return Ok(Vec::new());
        };
        let is_in_memory = |slot: &Slot| self.index.is_live(*slot) && !disk.is(*slot, OUT);
        let slots: Vec<Slot> = (0..self.index.slot_count() as Slot)
            .filter(is_in_memory)
            .collect();
        self.write_images(slots)?;
        let Some(disk) = &mut self.disk else {
            return Ok(Vec::new());
        };
        // Their runs have said it.
        for slot in std::mem::take(&mut disk.emptied) {
            disk.flags[slot as usize] &= !EMPTIED;
            self.vacated.push(slot);
        }
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
