//! Keyed state with a disk: which keys are in memory.
//!
//! ```text
//!   begin_batch --keys without a slot, or whose rows are out--> page_in: found in the runs -> Table::restore
//!   end_batch   --memory in use is more than it should be--> page_out: keys that were not used lately, many at a time, in the
//!                   background
//!                   1. changes since the last snapshot -> delta files (only with checkpoints)
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

use super::page_out::PageOut;
use super::{KeyedState, KeyedStateConfig};
use crate::disk::codec::{KeyCodec, Keys, TableCodec};
use crate::disk::snapshot_run::SnapshotRun;
use crate::disk::store::DiskStore;
use crate::key_index::Slot;
use crate::run::Scope;
use crate::settings::DiskSettings;
use crate::snapshot::StateError;
use crate::table::{Table, TableRows, key_error};
use crate::timers::TimeDomain;

/// Used since the clock's hand came by.
pub(super) const USED: u8 = 1;
/// The newest run that has the key has rows of it.
pub(super) const ON_DISK: u8 = 2;
/// Its rows are on disk only.
pub(super) const OUT: u8 = 4;
/// A caller has the slot.
pub(super) const HELD: u8 = 8;
/// Chosen to go out.
pub(super) const CHOSEN: u8 = 16;
/// On disk, and without rows in memory: listed in `emptied`.
pub(super) const EMPTIED: u8 = 32;
/// Its rows were sent to be written.
pub(super) const WRITING: u8 = 64;
/// And there were some.
pub(super) const WRITES_ROWS: u8 = 128;

/// Keys that are looked for together: their pages are held meanwhile.
const KEYS_AT_A_TIME: usize = 2048;
/// Steps of a write-out that a batch makes when the room is nearly used up, about.
const MOST_STEPS: usize = 8;
/// Times that keys are written out, and waited for, when memory is short: keys are not all of one size.
const ROUNDS: usize = 8;

/// What a [`KeyedState`] knows of its disk.
pub(super) struct Paging {
    pub(super) store: DiskStore,
    resident_bytes: usize,
    wait_bytes: usize,
    /// By slot.
    pub(super) flags: Vec<u8>,
    held: Vec<Slot>,
    pub(super) emptied: Vec<Slot>,
    /// Slots that are [`OUT`].
    pub(super) out: usize,
    pub(super) hand: usize,
    pub(super) page_out: Option<PageOut>,
    /// Of full snapshots, as long as they are being written.
    pub(super) snapshots: Vec<Arc<SnapshotRun>>,
    /// Whether use is noted: something is on disk, or soon will be.
    active: bool,
    pub(super) now_ms: i64,
}

impl Paging {
    /// None without a disk.
    pub(super) fn of(config: &KeyedStateConfig) -> Result<Option<Self>, StateError> {
        let disk = config.settings.disk.as_ref();
        disk.map(|disk| Self::new(config, disk)).transpose()
    }

    pub(super) fn new(config: &KeyedStateConfig, disk: &DiskSettings) -> Result<Self, StateError> {
        let scope = Scope::new(config.key_groups, config.max_parallelism);
        let keys = KeyCodec::new(&config.key)?;
        Ok(Self {
            store: DiskStore::new(disk.folder.sub_folder()?, keys, scope),
            resident_bytes: disk.resident_bytes,
            wait_bytes: disk.wait_bytes,
            flags: Vec::new(),
            held: Vec::new(),
            emptied: Vec::new(),
            out: 0,
            hand: 0,
            page_out: None,
            snapshots: Vec::new(),
            active: false,
            now_ms: i64::MIN,
        })
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
            + self.page_out.as_ref().map_or(0, PageOut::memory_size)
            + self.snapshot_bytes()
            + self.flags.capacity()
            + (self.held.capacity() + self.emptied.capacity()) * size_of::<Slot>()
    }

    /// Copies of rows that full snapshots have to write.
    fn snapshot_bytes(&self) -> usize {
        self.snapshots.iter().map(|run| run.memory_size()).sum()
    }

    /// There is no room for those copies: the task waits until they are written. Whether that worked is the snapshot's to know.
    fn finish_snapshots(&mut self) {
        for run in self.snapshots.drain(..) {
            if let Err(error) = run.wait() {
                tracing::warn!(%error, "a full snapshot can't be written");
            }
        }
    }

    /// Nobody has slots any more.
    pub(super) fn end_batch(&mut self) {
        self.snapshots.retain(|run| !run.is_over());
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
        if *flags & (ON_DISK | WRITING) == 0 {
            *flags = 0;
            return false;
        }
        if *flags & EMPTIED == 0 {
            *flags |= EMPTIED;
            self.emptied.push(slot);
        }
        true
    }

    pub(super) fn is(&self, slot: Slot, flag: u8) -> bool {
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
                    kept_bytes: None,
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
        if self.memory_size() > limit
            && let Some(disk) = &mut self.disk
        {
            disk.finish_snapshots();
        }
        let is_too_large = |(bytes, _): (usize, Slot)| bytes > limit;
        if self.memory_size() > limit && self.largest_key().is_some_and(is_too_large) {
            return self.check_memory();
        }
        self.make_room()?;
        let used = self.used();
        if let Some(disk) = &mut self.disk {
            let is_used = !disk.store.is_empty() || disk.out > 0 || disk.page_out.is_some();
            disk.active = is_used || used > disk.resident_bytes / 2;
        }
        let bytes = self.memory_size();
        if bytes > limit / 8 * 7 && bytes - self.used().min(bytes) > limit / 16 {
            self.give_back()?;
        }
        if self.memory_size() > limit {
            // Vectors have room that nobody uses.
            self.page_out_now(usize::MAX)?;
            self.shrink()?;
        }
        self.check_memory()
    }

    /// Has rows moved together that lie between those of keys which are out.
    fn give_back(&mut self) -> Result<(), StateError> {
        self.index.give_back();
        self.tables.iter_mut().try_for_each(|table| table.give_back())
    }

    /// Memory in use, without room for keys that aren't there, and without copies for snapshots.
    pub(super) fn used(&self) -> usize {
        let live = self.index.len();
        let tables = self.tables.iter().map(|table| table.slack(live));
        let copies = self.disk.as_ref().map_or(0, |disk| disk.snapshot_bytes());
        let slack = tables.sum::<usize>() + self.index.slack() + self.timers.slack(live) + copies;
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

    pub(super) fn keys_in(&self, bytes: usize) -> usize {
        bytes / self.bytes_a_key()
    }

    /// How much further a batch writes what is on its way out: the more, the less room is left until batches must wait.
    fn steps(&self) -> usize {
        let Some(disk) = self.disk.as_ref().filter(|disk| disk.page_out.is_some()) else {
            return 0;
        };
        let room = disk.wait_bytes.saturating_sub(disk.resident_bytes).max(1);
        let taken = self.used().saturating_sub(disk.resident_bytes).min(room);
        1 + (taken as f64 / room as f64 * MOST_STEPS as f64) as usize
    }

    /// Writes cold keys out if memory in use is more than it should be: a bit of it, as long as there is room.
    fn make_room(&mut self) -> Result<(), StateError> {
        for _ in 0..self.steps() {
            self.step_page_out(false)?;
        }
        let resident = self.resident_bytes();
        for _ in 0..ROUNDS {
            let used = self.used();
            if used <= resident {
                return Ok(());
            }
            if !self.is_paging_out() {
                let keys = self.keys_in(used - resident / 6 * 5);
                if !self.start_page_out(keys + keys / 8 + 1)? {
                    return Ok(());
                }
            }
            if self.disk.as_ref().is_some_and(|disk| used <= disk.wait_bytes) {
                return Ok(());
            }
            self.finish_page_out()?;
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
        self.page_out_now(usize::MAX)?;
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
    pub(super) fn prepare_codecs(&mut self) -> Result<(), StateError> {
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

    pub(super) fn keys_of_slots(&self, slots: &[Slot]) -> Result<Keys, StateError> {
        let groups = self.groups_of_slots(slots)?;
        self.encode_keys(&self.keys(slots)?, groups.into_iter())
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

    /// The key groups of these slots.
    pub(super) fn groups_of_slots(&self, slots: &[Slot]) -> Result<Vec<u32>, StateError> {
        let hashes = self.index.hashes(slots).map_err(key_error)?;
        let group = |hash| key_group(hash, self.config.max_parallelism);
        Ok(hashes.into_iter().map(group).collect())
    }
}
