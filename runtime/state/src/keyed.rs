//! Keyed state of one operator in one subtask: which keys there are, what tables hold of them, their timers.
//!
//! ```text
//!   batch: key columns, key hashes --begin_batch--> a slot a row --table(handle)--> get, set, add, put ..  (by slot)
//!                                                                --timers()-------> register, delete
//!   watermark, clock ------------------------------ pop_timer -> slots ----------> as above
//!   end_batch: keys without any state go away, some expired rows too; with a disk: cold keys when memory is short
//!   snapshot: what changed since the last one                      restore: rows by name, adapted to today's columns
//! ```
//!
//! ```
//! # use std::sync::Arc;
//! # use arrow::array::{ArrayRef, StringArray, UInt64Array};
//! # use arrow::datatypes::{DataType, Field};
//! # use thalweg_types::{KeyGroupRange, key_hash::hash_rows};
//! # use thalweg_state::keyed::{KeyedState, KeyedStateConfig};
//! # use thalweg_state::timers::{TimeDomain, Timer};
//! # use thalweg_state::{RestoredState, SnapshotRequest, StateError, StateSettings};
//! # fn main() -> Result<(), StateError> {
//! let mut state = KeyedState::new(KeyedStateConfig {
//!     operator: "Count Words".into(),
//!     key: vec![Arc::new(Field::new("word", DataType::Utf8, false))],
//!     key_groups: KeyGroupRange { start: 0, end: 127 },
//!     max_parallelism: 128,
//!     settings: Arc::new(StateSettings::default()),
//! })?;
//! // All registered before `restore`; a handle is Copy.
//! let count = state.register_value::<i64>("count", None)?;
//! let seen = state.register_map::<String, i64>("seen", None)?;
//! state.restore(&mut RestoredState::default(), 1_000)?;
//!
//! let words: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a", "b", "a"]))];
//! let mut hashes = Vec::new(); // come with a keyed batch: StreamBatch::key_hashes
//! hash_rows(&words, &mut hashes).unwrap();
//! let mut slots = Vec::new();
//! state.begin_batch(&words, &UInt64Array::from(hashes), 1_000, &mut slots)?;
//! for slot in &slots {
//!     state.table(count).reduce(*slot, 1, |total, one| *total += one);
//!     state.table(seen).put(*slot, "today".to_owned(), 1);
//!     let timer = Timer { time: 5_000, slot: *slot, window: None };
//!     state.timers().register(TimeDomain::Event, timer);
//! }
//! assert_eq!(state.table(count).get(slots[0]), Some(&2));
//! state.end_batch()?;
//!
//! state.advance_clock(6_000);
//! while let Some(timer) = state.pop_timer(TimeDomain::Event, 5_000)? {
//!     let _key = state.keys(&[timer.slot])?;
//!     state.table(count).clear(timer.slot);
//!     state.table(seen).clear(timer.slot);
//! }
//! state.end_batch()?;
//! assert_eq!(state.key_count(), 0);
//! let tables = state.snapshot(SnapshotRequest { checkpoint_id: 1, full: false })?;
//! assert!(tables.iter().all(|table| table.changes.is_empty()));
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: a slot stays its key's from `begin_batch` to the next `end_batch` at least, and as long as any table or timer
//! has something of it, be it a removal that the next snapshot must say; every table has room for every slot.

mod full_snapshot;
mod memory;
mod page_out;
mod paging;
mod restore;

use std::any::Any;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use thalweg_types::KeyGroupRange;
use thalweg_types::key_group::key_group;
use thalweg_types::record::Record;

use crate::key_index::{KeyIndex, Slot};
use crate::settings::StateSettings;
use crate::snapshot::{SnapshotRequest, StateError, StoredRows, TableDescriptor, TableKind, TableSnapshot};
use crate::state_hash::StateHash;
use crate::table::{
    ChangeWriter, ColumnHandle, ColumnTable, ListHandle, ListTable, MapHandle, MapTable, SlotColumn,
    StateTtl, Table, TableHandle, ValueHandle, ValueTable, WindowHandle, WindowListHandle, WindowListTable,
    fields_of, key_error, position_field, value_fields,
};
use crate::timers::{TimeDomain, Timer, Timers};
use paging::Paging;

/// Rows looked at for time-to-live at the end of each batch, besides two for each of its rows.
const SWEEP_ROWS: usize = 64;

/// What keyed state must know of its operator.
#[derive(Debug, Clone)]
pub struct KeyedStateConfig {
    /// The operator's name, for messages.
    pub operator: Arc<str>,
    /// The key's columns.
    pub key: Vec<FieldRef>,
    /// The key groups of this subtask.
    pub key_groups: KeyGroupRange,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// How much it may hold.
    pub settings: Arc<StateSettings>,
}

/// See the module.
pub struct KeyedState {
    config: KeyedStateConfig,
    index: KeyIndex,
    tables: Vec<Box<dyn Table>>,
    timers: Timers,
    /// Where rows are that memory has no room for.
    disk: Option<Box<Paging>>,
    new_rows: Vec<u32>,
    now_ms: i64,
    /// Slots that may hold nothing.
    vacated: Vec<Slot>,
    batch_rows: usize,
    tracking: bool,
    /// A table whose restored rows have other columns than its next snapshot: that must be a full one.
    full_for: Option<String>,
}

impl KeyedState {
    /// Empty, without tables.
    pub fn new(config: KeyedStateConfig) -> Result<Self, StateError> {
        let types: Vec<DataType> = config.key.iter().map(|field| field.data_type().clone()).collect();
        Ok(Self {
            index: KeyIndex::new(&types)
                .map_err(key_error)?
                .with_state_hash(StateHash::of(&config.key, config.max_parallelism)),
            timers: Timers::new(&config.key),
            disk: Paging::of(&config)?.map(Box::new),
            config,
            tables: Vec::new(),
            new_rows: Vec::new(),
            now_ms: i64::MIN,
            vacated: Vec::new(),
            batch_rows: 0,
            tracking: false,
            full_for: None,
        })
    }

    /// A table of one `T` a key: ValueState, ReducingState and AggregatingState (see [`ValueTable::reduce`] and
    /// [`ValueTable::get_or_insert_with`]). `name` is unique in the operator and finds the state again after a restart.
    pub fn register_value<T: Record>(
        &mut self,
        name: &str,
        ttl: Option<StateTtl>,
    ) -> Result<ValueHandle<T>, StateError> {
        let descriptor = self.describe(name, TableKind::Value, Vec::new(), fields_of::<T>(), ttl.as_ref())?;
        Ok(self.add(ValueTable::<T>::new(descriptor, ttl)))
    }

    /// A table of a list of `T` a key: ListState.
    pub fn register_list<T: Record>(
        &mut self,
        name: &str,
        ttl: Option<StateTtl>,
    ) -> Result<ListHandle<T>, StateError> {
        let sub_key = vec![position_field()];
        let descriptor = self.describe(name, TableKind::List, sub_key, fields_of::<T>(), ttl.as_ref())?;
        Ok(self.add(ListTable::<T>::new(descriptor, ttl)))
    }

    /// A table of a map from `K` to `V` a key: MapState.
    pub fn register_map<K: Record + Hash + Eq, V: Record>(
        &mut self,
        name: &str,
        ttl: Option<StateTtl>,
    ) -> Result<MapHandle<K, V>, StateError> {
        let sub_key = fields_of::<K>();
        let descriptor = self.describe(name, TableKind::Map, sub_key, fields_of::<V>(), ttl.as_ref())?;
        Ok(self.add(MapTable::<K, V>::new(descriptor, ttl)))
    }

    /// A table of a `V` a key and window.
    pub fn register_window<V: Record>(&mut self, name: &str) -> Result<WindowHandle<V>, StateError> {
        let descriptor = self.describe(name, TableKind::Window, window_fields(), fields_of::<V>(), None)?;
        Ok(self.add(MapTable::<(i64, i64), V>::new(descriptor, None)))
    }

    /// A table of a list of `T` a key and window.
    pub fn register_window_list<T: Record>(&mut self, name: &str) -> Result<WindowListHandle<T>, StateError> {
        let mut sub_key = window_fields();
        sub_key.push(position_field());
        let descriptor = self.describe(name, TableKind::Window, sub_key, fields_of::<T>(), None)?;
        Ok(self.add(WindowListTable::<T>::new(descriptor)))
    }

    /// A table of a row of columns a key, for operators that work on whole batches.
    pub fn register_columns<C: SlotColumn>(
        &mut self,
        name: &str,
        columns: C,
        ttl: Option<StateTtl>,
    ) -> Result<ColumnHandle<C>, StateError> {
        let fields = columns.fields();
        let descriptor = self.describe(name, TableKind::Value, Vec::new(), fields, ttl.as_ref())?;
        Ok(self.add(ColumnTable::new(descriptor, columns, ttl)))
    }

    /// The table of a handle that this state gave; panics on another's. One downcast: a loop over rows asks once.
    #[inline]
    pub fn table<S: Any>(&mut self, handle: TableHandle<S>) -> &mut S {
        let table: &mut dyn Any = self.tables[handle.index].as_mut();
        match table.downcast_mut() {
            Some(table) => table,
            None => panic!("{handle:?} is of another operator's state"),
        }
    }

    /// The table of a handle, to be looked at: that is no use of what is in it.
    pub fn peek<S: Any>(&self, handle: TableHandle<S>) -> &S {
        let table: &dyn Any = self.tables[handle.index].as_ref();
        match table.downcast_ref() {
            Some(table) => table,
            None => panic!("{handle:?} is of another operator's state"),
        }
    }

    /// Two tables at once; panics on the same one twice, and as [`Self::table`] does.
    pub fn table_pair<A: Any, B: Any>(
        &mut self,
        first: TableHandle<A>,
        second: TableHandle<B>,
    ) -> (&mut A, &mut B) {
        let Ok([a, b]) = self.tables.get_disjoint_mut([first.index, second.index]) else {
            panic!("{first:?} and {second:?} are not two tables of this state");
        };
        let (a, b): (&mut dyn Any, &mut dyn Any) = (a.as_mut(), b.as_mut());
        match (a.downcast_mut(), b.downcast_mut()) {
            (Some(a), Some(b)) => (a, b),
            _ => panic!("{first:?} or {second:?} is of another operator's state"),
        }
    }

    /// The timers; due ones come from [`Self::pop_timer`].
    #[inline]
    pub fn timers(&mut self) -> &mut Timers {
        &mut self.timers
    }

    /// Takes the next timer of a domain that is due at `until` (a watermark, a clock). Its slot is good for [`Self::table`] until the next
    /// one is taken.
    pub fn pop_timer(&mut self, domain: TimeDomain, until: i64) -> Result<Option<Timer>, StateError> {
        let Some(timer) = self.timers.pop(domain, until) else {
            return Ok(None);
        };
        if self.disk.is_some() {
            self.page_in_due(timer.slot, domain, until)?;
        }
        Ok(Some(timer))
    }

    /// Takes the timers of a domain that are due at `until` and have the time of the first of them, at most `most`, in the order of
    /// slots (`timers` is cleared first). Their slots are good for [`Self::table`] until [`Self::end_batch`].
    pub fn pop_timers(
        &mut self,
        domain: TimeDomain,
        until: i64,
        most: usize,
        timers: &mut Vec<Timer>,
    ) -> Result<(), StateError> {
        timers.clear();
        let Some(time) = self.timers.next_time(domain).filter(|time| *time <= until) else {
            return Ok(());
        };
        timers.extend(self.timers.due_timers(domain, time).take(most.max(1)));
        if self.disk.as_ref().is_some_and(|disk| disk.is_active()) {
            let mut slots: Vec<Slot> = timers.iter().map(|timer| timer.slot).collect();
            slots.dedup();
            self.new_rows.clear();
            self.page_in_batch(&slots)?;
        }
        timers.iter().for_each(|timer| self.timers.delete(domain, *timer));
        Ok(())
    }

    /// The slot of each row of a batch (`slots` is cleared first), good until [`Self::end_batch`]. `columns` have the types of
    /// the key, `hashes` are the rows' key hashes, `now_ms` is the clock of time-to-live.
    pub fn begin_batch(
        &mut self,
        columns: &[ArrayRef],
        hashes: &UInt64Array,
        now_ms: i64,
        slots: &mut Vec<Slot>,
    ) -> Result<(), StateError> {
        debug_assert!(
            hashes.values().iter().all(|hash| self.owns(*hash)),
            "a row of another subtask's key group came to {}",
            self.config.operator
        );
        self.advance_clock(now_ms);
        self.find_slots(columns, hashes, slots)?;
        self.batch_rows += slots.len();
        if self.disk.as_ref().is_some_and(|disk| disk.is_active()) {
            self.page_in_batch(slots)?;
        }
        Ok(())
    }

    /// Sets the clock of time-to-live; it doesn't go back. For timers, which come without a batch.
    pub fn advance_clock(&mut self, now_ms: i64) {
        for table in self.all_tables() {
            table.set_now(now_ms);
        }
        self.now_ms = self.now_ms.max(now_ms);
        if let Some(disk) = &mut self.disk {
            disk.set_now(now_ms);
        }
    }

    /// After a batch, or after some timers: keys without state go away, and the memory limit is checked.
    pub fn end_batch(&mut self) -> Result<(), StateError> {
        let rows = 2 * std::mem::take(&mut self.batch_rows) + SWEEP_ROWS;
        for table in self.all_tables() {
            table.sweep(rows);
        }
        if let Some(disk) = &mut self.disk {
            disk.end_batch();
        }
        self.release_vacant();
        match self.disk {
            Some(_) => self.keep_within_memory(),
            None => self.check_memory(),
        }
    }

    /// The keys of slots as columns: a timer's key.
    pub fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, StateError> {
        self.index.keys(slots).map_err(key_error)
    }

    /// How many keys have a slot; keys of which all is on disk have none.
    pub fn key_count(&self) -> usize {
        self.index.len()
    }

    /// Bytes held.
    pub fn memory_size(&self) -> usize {
        let tables: usize = self.tables.iter().map(|table| table.memory_size()).sum();
        let disk = self.disk.as_ref().map_or(0, |disk| disk.memory_size());
        self.index.memory_size() + tables + self.timers.memory_size() + disk
    }

    /// [`StateError::Memory`] if it holds more than it may. Done at the end of each batch; an operator whose user may write much
    /// for one row asks more often. It costs a few additions.
    pub fn check_memory(&mut self) -> Result<(), StateError> {
        let limit = self.config.settings.memory_bytes;
        if self.memory_size() <= limit {
            return Ok(());
        }
        // Of restored rows some are there twice.
        self.tables.iter_mut().for_each(|table| table.settle());
        match self.memory_size() {
            bytes if bytes <= limit => Ok(()),
            bytes => Err(self.memory_error(bytes)),
        }
    }

    #[cfg(test)]
    fn assert_memory_is_exact(&mut self) {
        self.tables
            .iter()
            .for_each(|table| table.assert_memory_is_exact());
    }

    /// The tables and timers for a checkpoint: what changed since the last call, or all if nothing was asked before. Between
    /// batches only.
    pub fn snapshot(&mut self, request: SnapshotRequest) -> Result<Vec<TableSnapshot>, StateError> {
        if let Some(table) = self.full_for.take_if(|_| !request.full) {
            return Err(StateError::Incompatible {
                state: table,
                message: "its columns have changed since they were stored, so that the first checkpoint after the restore must be full"
                    .to_owned(),
            });
        }
        self.full_for = None;
        let full = request.full || !self.tracking;
        self.track_changes();
        if self.disk.is_some() {
            return self.snapshot_with_disk(full);
        }
        let through_scratch = match full {
            true => self.snapshot_through_scratch()?,
            false => None,
        };
        let snapshots = match through_scratch {
            Some(snapshots) => snapshots,
            None => self.take_changes(full)?,
        };
        self.release_vacant();
        Ok(snapshots)
    }

    /// What changed, or all that is in memory.
    fn take_changes(&mut self, full: bool) -> Result<Vec<TableSnapshot>, StateError> {
        let Self {
            tables,
            timers,
            index,
            config,
            ..
        } = self;
        let mut snapshots = Vec::with_capacity(tables.len() + 1);
        let timers: &mut dyn Table = timers;
        for table in tables.iter_mut().map(|table| &mut **table).chain([timers]) {
            let descriptor = Arc::clone(table.descriptor());
            let mut writer = ChangeWriter::new(index, &descriptor, config.max_parallelism);
            table.changes(full, &mut writer)?;
            snapshots.push(TableSnapshot {
                changes: writer.finish(),
                descriptor,
                stored: StoredRows::default(),
            });
        }
        Ok(snapshots)
    }

    fn describe(
        &self,
        name: &str,
        kind: TableKind,
        sub_key: Vec<FieldRef>,
        value: Vec<FieldRef>,
        ttl: Option<&StateTtl>,
    ) -> Result<Arc<TableDescriptor>, StateError> {
        if self.tables.iter().any(|table| table.descriptor().name == name) {
            return Err(StateError::Incompatible {
                state: name.to_owned(),
                message: format!(
                    "operator {:?} has another state of this name: give each its own",
                    self.config.operator
                ),
            });
        }
        Ok(Arc::new(TableDescriptor {
            name: name.to_owned(),
            kind,
            key: self.config.key.clone(),
            sub_key,
            value: value_fields(value, ttl),
            ttl: ttl.map(|ttl| ttl.time),
        }))
    }

    fn add<S: Table>(&mut self, mut table: S) -> TableHandle<S> {
        table.resize(self.index.slot_count());
        if self.tracking {
            table.track_changes();
        }
        self.tables.push(Box::new(table));
        TableHandle::new(self.tables.len() - 1)
    }

    /// Tables in the order of their registration, then the timers.
    fn table_at(&mut self, place: usize) -> &mut dyn Table {
        match self.tables.get_mut(place) {
            Some(table) => table.as_mut(),
            None => &mut self.timers,
        }
    }

    fn all_tables(&mut self) -> impl Iterator<Item = &mut dyn Table> {
        let timers: &mut dyn Table = &mut self.timers;
        self.tables.iter_mut().map(|table| &mut **table).chain([timers])
    }

    fn track_changes(&mut self) {
        self.tracking = true;
        self.all_tables().for_each(Table::track_changes);
    }

    fn find_slots(
        &mut self,
        columns: &[ArrayRef],
        hashes: &UInt64Array,
        slots: &mut Vec<Slot>,
    ) -> Result<(), StateError> {
        self.index
            .slots(columns, hashes, slots, &mut self.new_rows)
            .map_err(key_error)?;
        if !self.new_rows.is_empty() {
            let count = self.index.slot_count();
            self.all_tables().for_each(|table| table.resize(count));
            if let Some(disk) = &mut self.disk {
                disk.resize(count);
            }
            self.vacated
                .extend(self.new_rows.iter().map(|row| slots[*row as usize]));
        }
        Ok(())
    }

    fn owns(&self, hash: u64) -> bool {
        self.config
            .key_groups
            .contains(key_group(hash, self.config.max_parallelism))
    }

    /// Frees the slots of keys that nothing is known of any more.
    fn release_vacant(&mut self) {
        let mut vacated = std::mem::take(&mut self.vacated);
        self.all_tables()
            .for_each(|table| table.take_vacated(&mut vacated));
        for slot in vacated.drain(..) {
            if self.index.is_live(slot) && self.all_tables().all(|table| table.is_vacant(slot)) {
                let is_on_disk = |disk: &mut Box<Paging>| disk.emptied(slot);
                if self.disk.as_mut().is_some_and(is_on_disk) {
                    continue;
                }
                self.all_tables().for_each(|table| table.release(slot));
                self.index.remove(slot);
            }
        }
        self.vacated = vacated;
    }
}

/// The columns that tell windows apart.
fn window_fields() -> Vec<FieldRef> {
    let bound = |name| Arc::new(Field::new(name, DataType::Int64, false));
    vec![bound("window_start"), bound("window_end")]
}

#[cfg(test)]
mod tests;
