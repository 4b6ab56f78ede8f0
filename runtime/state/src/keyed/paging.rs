//! Keyed state with a disk: which keys are in memory.
//!
//! ```text
//!   begin_batch --keys without a slot, or whose rows are out--> page_in: found in the runs -> Table::restore
//!   end_batch   --memory in use is more than it should be--> page_out: keys that were not used lately, many at a time
//!                   1. changes since the last snapshot -> a delta file (only with checkpoints)
//!                   2. all rows of those keys          -> a run
//!                   3. the tables forget them; the slot is free, unless the key has timers
//! ```
//!
//! Timers stay in memory, with their key and its slot: the rows of a key with timers go out without it, and come back when one is
//! due.
//!
//! Invariants: a key whose rows are in memory is not looked for on disk, whatever is there; a key that is there and has lost its
//! rows in memory keeps its slot until a run says so; keys of the batch at hand, and whatever else a caller has slots of, stay.

use std::sync::Arc;

use arrow::array::ArrayRef;
use thalweg_types::key_group::key_group;

use super::{KeyedState, KeyedStateConfig};
use crate::disk::codec::{KeyCodec, Keys, TableCodec};
use crate::disk::image::TableImage;
use crate::disk::page::Entry;
use crate::disk::run::RunWriter;
use crate::disk::store::DiskStore;
use crate::key_index::Slot;
use crate::run::Scope;
use crate::snapshot::{StateError, Stored, StoredRows, TableSnapshot};
use crate::table::{ChangeWriter, Table, TableRows};
use crate::timers::TimeDomain;

/// Used since the clock's hand came by.
const USED: u8 = 1;
/// The newest run that has the key has rows of it.
const ON_DISK: u8 = 2;
/// Its rows are on disk only.
const OUT: u8 = 4;
/// A caller has the slot.
const HELD: u8 = 8;
/// Chosen to go out.
const CHOSEN: u8 = 16;
/// On disk, and without rows in memory: listed in `emptied`.
const EMPTIED: u8 = 32;

/// Keys that are looked for together: their pages are held meanwhile.
const KEYS_AT_A_TIME: usize = 2048;
/// Keys that are sorted together, at least a key group.
const SORT_KEYS: usize = 1 << 15;
/// Bytes of rows that are collected before they are written, about.
const COLLECT_BYTES: usize = 8 << 20;

/// What a [`KeyedState`] knows of its disk.
pub(super) struct Paging {
    pub(super) store: DiskStore,
    resident_bytes: usize,
    /// By slot.
    flags: Vec<u8>,
    held: Vec<Slot>,
    emptied: Vec<Slot>,
    /// Slots that are [`OUT`].
    out: usize,
    hand: usize,
    /// Whether use is noted: something is on disk, or soon will be.
    active: bool,
    now_ms: i64,
}

impl Paging {
    /// None without a disk.
    pub(super) fn new(config: &KeyedStateConfig) -> Result<Option<Self>, StateError> {
        let Some(disk) = &config.settings.disk else {
            return Ok(None);
        };
        let scope = Scope::new(config.key_groups, config.max_parallelism);
        let keys = KeyCodec::new(&config.key)?;
        Ok(Some(Self {
            store: DiskStore::new(disk.folder.sub_folder()?, keys, scope),
            resident_bytes: disk.resident_bytes,
            flags: Vec::new(),
            held: Vec::new(),
            emptied: Vec::new(),
            out: 0,
            hand: 0,
            active: false,
            now_ms: i64::MIN,
        }))
    }

    #[inline]
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    pub(super) fn set_now(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    pub(super) fn resize(&mut self, count: usize) {
        if count > self.flags.len() {
            self.flags.resize(count, 0);
        }
    }

    pub(super) fn memory_size(&self) -> usize {
        self.store.memory_size()
            + self.flags.capacity()
            + (self.held.capacity() + self.emptied.capacity()) * size_of::<Slot>()
    }

    /// Nobody has slots any more.
    pub(super) fn end_batch(&mut self) {
        for slot in self.held.drain(..) {
            self.flags[slot as usize] &= !HELD;
        }
    }

    fn hold(&mut self, slot: Slot) {
        let flags = &mut self.flags[slot as usize];
        if *flags & HELD == 0 {
            self.held.push(slot);
        }
        *flags |= HELD | USED;
    }

    /// A slot without rows: whether it has to stay, so that a run can say that its key has none.
    pub(super) fn emptied(&mut self, slot: Slot) -> bool {
        let flags = &mut self.flags[slot as usize];
        if *flags & OUT != 0 {
            // Its rows are where they were, only the last of its timers is gone.
            *flags = 0;
            self.out -= 1;
            return false;
        }
        if *flags & ON_DISK == 0 {
            *flags = 0;
            return false;
        }
        if *flags & EMPTIED == 0 {
            *flags |= EMPTIED;
            self.emptied.push(slot);
        }
        true
    }

    fn is(&self, slot: Slot, flag: u8) -> bool {
        self.flags[slot as usize] & flag != 0
    }
}

impl KeyedState {
    /// Brings the rows of a batch's keys into memory; `slots` are those of its rows.
    pub(super) fn page_in_batch(&mut self, slots: &[Slot]) -> Result<(), StateError> {
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        let mut missing = Vec::new();
        if !disk.store.is_empty() {
            missing.extend(self.new_rows.iter().map(|row| slots[*row as usize]));
        }
        let any_out = disk.out > 0;
        for slot in slots {
            if any_out && disk.flags[*slot as usize] & (OUT | HELD) == OUT {
                missing.push(*slot);
            }
            disk.hold(*slot);
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.make_room()?;
        self.page_in(&missing)
    }

    /// Brings the rows of a timer's key into memory, and those of timers that are due next.
    pub(super) fn page_in_due(
        &mut self,
        slot: Slot,
        domain: TimeDomain,
        until: i64,
    ) -> Result<(), StateError> {
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        disk.flags[slot as usize] |= USED;
        if !disk.is(slot, OUT) {
            return Ok(());
        }
        self.make_room()?;
        let most = self.keys_in(self.resident_bytes() / 16).clamp(1, KEYS_AT_A_TIME);
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let due = self.timers.due(domain, until).take(4 * most);
        let mut slots: Vec<Slot> = due.filter(|due| disk.is(*due, OUT)).take(most).collect();
        slots.push(slot);
        slots.sort_unstable();
        slots.dedup();
        self.page_in(&slots)
    }

    /// Looks these keys up on disk, of which nothing is in memory.
    fn page_in(&mut self, slots: &[Slot]) -> Result<(), StateError> {
        self.prepare_codecs()?;
        for slots in slots.chunks(KEYS_AT_A_TIME) {
            let keys = self.keys_of_slots(slots)?;
            let Some(disk) = &mut self.disk else {
                return Ok(());
            };
            let found = disk.store.find(&keys)?;
            for slot in slots {
                let flags = &mut disk.flags[*slot as usize];
                disk.out -= usize::from(*flags & OUT != 0);
                *flags = *flags & !(OUT | ON_DISK) | USED;
            }
            for key in found.keys() {
                disk.flags[slots[key] as usize] |= ON_DISK;
            }
            if found.is_empty() {
                continue;
            }
            let codecs = Arc::clone(&disk.store.tables);
            for (number, (table, codec)) in self.tables.iter_mut().zip(codecs.iter()).enumerate() {
                let (owners, rows): (Vec<Slot>, Vec<&[u8]>) =
                    found.rows(number).map(|(key, row)| (slots[key], row)).unzip();
                if owners.is_empty() {
                    continue;
                }
                let decoded = codec.decode(&rows)?;
                table.restore(&TableRows {
                    slots: &owners,
                    sub_key: decoded.sub_key,
                    value: decoded.value,
                    accessed: decoded.accessed,
                })?;
            }
        }
        Ok(())
    }

    /// After a batch: memory is what it may be, or it is an error.
    pub(super) fn keep_within_memory(&mut self) -> Result<(), StateError> {
        if let Some(disk) = &mut self.disk {
            disk.store.take_compacted()?;
        }
        let limit = self.config.settings.memory_bytes;
        let is_too_large = |(bytes, _): (usize, Slot)| bytes > limit;
        if self.memory_size() > limit && self.largest_key().is_some_and(is_too_large) {
            return self.check_memory();
        }
        self.make_room()?;
        let used = self.used();
        if let Some(disk) = &mut self.disk {
            disk.active = !disk.store.is_empty() || disk.out > 0 || used > disk.resident_bytes / 2;
        }
        let bytes = self.memory_size();
        if bytes > limit / 8 * 7 && bytes - self.used().min(bytes) > limit / 16 {
            self.give_back()?;
        }
        if self.memory_size() > limit {
            // Vectors have room that nobody uses.
            self.page_out_cold(usize::MAX)?;
            self.shrink()?;
        }
        self.check_memory()
    }

    /// Has rows moved together that lie between those of keys which are out.
    fn give_back(&mut self) -> Result<(), StateError> {
        self.index.give_back();
        self.tables.iter_mut().try_for_each(|table| table.give_back())
    }

    /// Memory in use, without room for keys that aren't there.
    fn used(&self) -> usize {
        let live = self.index.len();
        let tables = self.tables.iter().map(|table| table.slack(live));
        let slack = tables.sum::<usize>() + self.index.slack() + self.timers.slack(live);
        self.memory_size().saturating_sub(slack)
    }

    fn resident_bytes(&self) -> usize {
        self.disk.as_ref().map_or(usize::MAX, |disk| disk.resident_bytes)
    }

    /// Bytes of a key in memory, on average.
    fn bytes_a_key(&self) -> usize {
        let disk = self
            .disk
            .as_ref()
            .map_or((0, 0), |disk| (disk.memory_size(), disk.out));
        let fixed = disk.0 + self.timers.memory_size();
        let keys = self.index.len() - disk.1.min(self.index.len());
        (self.used().saturating_sub(fixed) / keys.max(1)).max(1)
    }

    fn keys_in(&self, bytes: usize) -> usize {
        bytes / self.bytes_a_key()
    }

    /// Writes cold keys out if memory in use is more than it should be.
    fn make_room(&mut self) -> Result<(), StateError> {
        let resident = self.resident_bytes();
        if self.used() <= resident {
            return Ok(());
        }
        let target = resident / 4 * 3;
        // A few rounds: keys are not all of one size.
        for _ in 0..4 {
            let used = self.used();
            if used <= target {
                break;
            }
            let keys = self.keys_in(used - target);
            if !self.page_out_cold(keys + keys / 8 + 1)? {
                break;
            }
        }
        Ok(())
    }

    /// During a restore: all keys but these go out when memory is short, so that the runs are large.
    pub(super) fn make_room_for_restore(&mut self, unfinished: &[Slot]) -> Result<(), StateError> {
        if self.used() <= self.resident_bytes() {
            return Ok(());
        }
        self.release_vacant();
        if let Some(disk) = &mut self.disk {
            disk.end_batch();
            unfinished.iter().for_each(|slot| disk.hold(*slot));
        }
        self.page_out_cold(usize::MAX)?;
        if self.memory_size() > self.config.settings.memory_bytes {
            self.shrink()?;
        }
        self.check_memory()
    }

    pub(super) fn end_restore(&mut self) -> Result<(), StateError> {
        if let Some(disk) = &mut self.disk {
            disk.end_batch();
        }
        self.release_vacant();
        self.keep_within_memory()
    }

    /// Writes so many keys out that were not used lately; false if there are none.
    fn page_out_cold(&mut self, count: usize) -> Result<bool, StateError> {
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

    /// Gives room back that keys had which are out now.
    fn shrink(&mut self) -> Result<(), StateError> {
        self.release_vacant();
        self.give_back()?;
        let count = self.index.shrink();
        self.all_tables().for_each(|table| table.shrink(count));
        self.vacated = Vec::new();
        if let Some(disk) = &mut self.disk {
            disk.flags.truncate(count);
            disk.flags.shrink_to_fit();
            disk.emptied.retain(|slot| (*slot as usize) < count);
            disk.hand = 0;
        }
        Ok(())
    }

    /// All tables that are there now have a codec.
    fn prepare_codecs(&mut self) -> Result<(), StateError> {
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        if disk.store.tables.len() < self.tables.len() {
            let codecs = self
                .tables
                .iter()
                .map(|table| TableCodec::new(table.descriptor()));
            disk.store.tables = Arc::new(codecs.collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    fn keys_of_slots(&self, slots: &[Slot]) -> Result<Keys, StateError> {
        let groups = slots.iter().map(|slot| self.group_of_slot(*slot));
        self.encode_keys(&self.keys(slots)?, groups)
    }

    pub(super) fn encode_keys(
        &self,
        columns: &[ArrayRef],
        groups: impl Iterator<Item = u32>,
    ) -> Result<Keys, StateError> {
        match &self.disk {
            Some(disk) => disk.store.keys.encode(columns, groups),
            None => Ok(Keys::default()),
        }
    }

    fn group_of_slot(&self, slot: Slot) -> u32 {
        key_group(self.index.hash(slot), self.config.max_parallelism)
    }
}
