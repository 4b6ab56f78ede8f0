//! One value a key.

mod restored;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder};
use arrow::datatypes::DataType;
use thalweg_types::record::Record;

use super::marks::Marks;
use super::ttl::TtlClock;
use super::{ChangeWriter, StateTtl, Table, TableRows, make_room, unused, wrong_columns};
use crate::key_index::Slot;
use crate::snapshot::{ChangeKind, StateError, TableDescriptor};
use restored::Restored;

/// Values of `T` by slot: Flink's ValueState, and what ReducingState and AggregatingState are built on.
///
/// Slots come from [`crate::KeyedState::begin_batch`] or a timer; another one panics.
pub struct ValueTable<T: Record> {
    descriptor: Arc<TableDescriptor>,
    rows: Vec<Option<T>>,
    /// Values that are not among the rows yet; gone with the last of them.
    restored: Option<Box<Restored<T>>>,
    /// Whether values may hold memory of their own: then it pays to let restored ones where they are.
    has_heap: bool,
    /// When the slot's value was last used; empty without time-to-live.
    accessed: Vec<i64>,
    clock: TtlClock,
    marks: Marks,
    /// What the values hold besides their own size, without that of `lent`.
    heap: usize,
    /// The value that was given out to be changed; measured again when the table is used next.
    lent: Option<Slot>,
    /// An expired value that may be read once more.
    expired: Option<T>,
    vacated: Vec<Slot>,
    next_sweep: usize,
}

fn heap_of<T: Record>(row: Option<&T>) -> usize {
    row.map_or(0, |value| T::heap_bytes(T::view(value)))
}

fn has_heap(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| has_heap(field.data_type())),
        other => !other.is_primitive() && *other != DataType::Boolean,
    }
}

/// The slot's value, wherever it is.
#[inline]
fn view<'a, T: Record>(
    rows: &'a [Option<T>],
    restored: &'a Option<Box<Restored<T>>>,
    slot: Slot,
) -> Option<T::Ref<'a>> {
    match (&rows[slot as usize], restored) {
        (Some(value), _) => Some(T::view(value)),
        (None, Some(restored)) => restored.get(slot),
        (None, None) => None,
    }
}

impl<T: Record> ValueTable<T> {
    pub(crate) fn new(descriptor: Arc<TableDescriptor>, ttl: Option<StateTtl>) -> Self {
        Self {
            has_heap: T::fields().iter().any(|field| has_heap(field.data_type())),
            descriptor,
            rows: Vec::new(),
            restored: None,
            accessed: Vec::new(),
            clock: TtlClock::new(ttl),
            marks: Marks::default(),
            heap: 0,
            lent: None,
            expired: None,
            vacated: Vec::new(),
            next_sweep: 0,
        }
    }

    /// The key's value. A read may begin its life anew or find it expired; [`Self::peek`] is none.
    #[inline]
    pub fn get(&mut self, slot: Slot) -> Option<&T> {
        self.settle_row(slot);
        if self.clock.is_on() && !self.read(slot) {
            return self.expired.as_ref();
        }
        self.rows[slot as usize].as_ref()
    }

    /// The key's value if it is not expired, without being a use of it.
    #[inline]
    pub fn peek(&mut self, slot: Slot) -> Option<&T> {
        self.settle_row(slot);
        self.rows[slot as usize]
            .as_ref()
            .filter(|_| !self.is_expired(slot))
    }

    /// Replaces the key's value.
    #[inline]
    pub fn set(&mut self, slot: Slot, value: T) {
        self.measure_lent();
        self.forget_restored(slot);
        self.heap += T::heap_bytes(T::view(&value));
        let row = &mut self.rows[slot as usize];
        self.heap -= heap_of(row.as_ref());
        *row = Some(value);
        self.written(slot);
    }

    /// The key's value to be changed in place, which counts as a write; `None` if there is none or it is expired.
    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.measure_lent();
        self.settle_row(slot);
        self.drop_expired(slot);
        self.rows[slot as usize].as_ref()?;
        Some(self.lend(slot))
    }

    /// The key's value to be changed in place, made by `create` if there is none. With `add` it is AggregatingState's add.
    #[inline]
    pub fn get_or_insert_with(&mut self, slot: Slot, create: impl FnOnce() -> T) -> &mut T {
        self.measure_lent();
        self.settle_row(slot);
        self.drop_expired(slot);
        let row = &mut self.rows[slot as usize];
        if row.is_none() {
            let value = create();
            self.heap += T::heap_bytes(T::view(&value));
            *row = Some(value);
        }
        self.lend(slot)
    }

    /// ReducingState's add: folds a value into the key's, or makes it the first. The result.
    #[inline]
    pub fn reduce<'v>(
        &mut self,
        slot: Slot,
        value: T::Ref<'v>,
        function: impl FnOnce(&mut T, T::Ref<'v>),
    ) -> &T {
        self.measure_lent();
        self.settle_row(slot);
        self.drop_expired(slot);
        self.written(slot);
        let heap = &mut self.heap;
        match &mut self.rows[slot as usize] {
            Some(running) => {
                *heap -= T::heap_bytes(T::view(running));
                function(running, value);
                *heap += T::heap_bytes(T::view(running));
                running
            }
            row @ None => {
                let first = row.insert(T::own(value));
                *heap += T::heap_bytes(T::view(first));
                first
            }
        }
    }

    /// Removes the key's value and gives it, unless it is expired.
    pub fn take(&mut self, slot: Slot) -> Option<T> {
        self.measure_lent();
        self.settle_row(slot);
        self.drop_expired(slot);
        self.remove(slot)
    }

    /// Removes the key's value.
    pub fn clear(&mut self, slot: Slot) {
        self.measure_lent();
        self.remove(slot);
    }

    /// Whether the value may be read; it is used then.
    fn read(&mut self, slot: Slot) -> bool {
        self.expired = None;
        let place = slot as usize;
        if self.rows[place].is_none() {
            return false;
        }
        if self.is_expired(slot) {
            self.measure_lent();
            let value = self.remove(slot);
            self.expired = value.filter(|_| self.clock.returns_expired());
            return false;
        }
        if self.clock.updates_on_read() && self.accessed[place] != self.clock.now() {
            self.written(slot);
        }
        true
    }

    #[inline]
    fn is_expired(&self, slot: Slot) -> bool {
        self.clock.is_on() && self.clock.is_expired(self.accessed[slot as usize])
    }

    #[inline]
    fn drop_expired(&mut self, slot: Slot) {
        if self.is_expired(slot) {
            self.remove(slot);
        }
    }

    #[inline]
    fn written(&mut self, slot: Slot) {
        self.marks.touch(slot);
        if self.clock.is_on() {
            self.accessed[slot as usize] = self.clock.now();
        }
    }

    #[inline]
    fn lend(&mut self, slot: Slot) -> &mut T {
        self.written(slot);
        let row = &mut self.rows[slot as usize];
        self.heap -= heap_of(row.as_ref());
        self.lent = Some(slot);
        match row {
            Some(value) => value,
            None => unreachable!("only slots with a value are lent"),
        }
    }

    #[inline]
    fn measure_lent(&mut self) {
        if let Some(slot) = self.lent.take() {
            self.heap += heap_of(self.rows[slot as usize].as_ref());
        }
    }

    fn remove(&mut self, slot: Slot) -> Option<T> {
        self.settle_row(slot);
        let value = self.rows[slot as usize].take();
        if let Some(value) = &value {
            self.heap -= T::heap_bytes(T::view(value));
            if self.marks.is_saved(slot) {
                self.marks.touch(slot);
            }
            self.vacated.push(slot);
        }
        value
    }

    /// The slot's value has a row of its own from now on, if it has one at all.
    #[inline]
    fn settle_row(&mut self, slot: Slot) {
        if self.restored.is_some() {
            self.take_restored(slot);
        }
    }

    #[cold]
    fn take_restored(&mut self, slot: Slot) {
        let value = self.restored.as_mut().and_then(|restored| restored.take(slot));
        if let Some(value) = value {
            self.put_restored(slot, value);
        }
    }

    fn put_restored(&mut self, slot: Slot, value: T) {
        self.heap += T::heap_bytes(T::view(&value));
        self.rows[slot as usize] = Some(value);
        self.restored.take_if(|restored| restored.is_empty());
    }

    /// The same for values that nobody uses, so many at most.
    fn settle_rows(&mut self, most: usize) {
        for _ in 0..most {
            let next = self.restored.as_mut().and_then(|restored| restored.take_next());
            let Some((slot, value)) = next else { return };
            self.put_restored(slot, value);
        }
    }

    fn forget_restored(&mut self, slot: Slot) {
        if let Some(restored) = &mut self.restored {
            restored.forget(slot);
            self.restored.take_if(|restored| restored.is_empty());
        }
    }

    /// Keeps restored rows in their columns. Expired ones are left out: their file still has them, and the next snapshot says that they
    /// are gone.
    fn adopt(&mut self, columns: T::Columns, bytes: usize, rows: &TableRows<'_>) {
        let Self {
            restored,
            marks,
            clock,
            accessed,
            vacated,
            ..
        } = self;
        let restored = restored.get_or_insert_with(Box::default);
        restored.adopt(columns, bytes, rows.slots, self.rows.len(), |row, slot| {
            marks.set_saved(slot, true);
            if !clock.is_on() {
                return true;
            }
            accessed[slot as usize] = rows.accessed(row);
            let is_expired = clock.is_expired(rows.accessed(row));
            if is_expired {
                marks.touch(slot);
                vacated.push(slot);
            }
            !is_expired
        });
        self.restored.take_if(|restored| restored.is_empty());
    }

    fn has(&self, slot: Slot) -> bool {
        self.rows[slot as usize].is_some()
            || self.restored.as_ref().is_some_and(|restored| restored.has(slot))
    }

    fn write(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let mut rows = T::builders(slots.len().min(out.batch_rows()));
        let mut accessed = Int64Builder::new();
        for slot in slots {
            let row = view(&self.rows, &self.restored, *slot);
            let kept = row.filter(|_| !self.is_expired(*slot));
            let is_kept = kept.is_some();
            let was_saved = self.marks.is_saved(*slot);
            self.marks.set_saved(*slot, is_kept);
            match kept {
                Some(value) => {
                    out.note(*slot, ChangeKind::Upsert);
                    T::push(&mut rows, value);
                }
                None if was_saved => {
                    out.note(*slot, ChangeKind::Delete);
                    T::push_null(&mut rows);
                    self.vacated.push(*slot);
                }
                None => continue,
            }
            if self.clock.is_on() {
                accessed.append_option(is_kept.then(|| self.accessed[*slot as usize]));
            }
            if out.is_full(T::builders_bytes(&rows)) {
                out.flush(self.columns(&mut rows, &mut accessed))?;
            }
        }
        out.flush(self.columns(&mut rows, &mut accessed))
    }

    fn columns(&self, rows: &mut T::Builders, accessed: &mut Int64Builder) -> Vec<ArrayRef> {
        let mut columns = T::finish_columns(rows);
        if self.clock.is_on() {
            columns.push(Arc::new(accessed.finish()));
        }
        columns
    }
}

impl<T: Record> Table for ValueTable<T> {
    fn descriptor(&self) -> &Arc<TableDescriptor> {
        &self.descriptor
    }

    fn resize(&mut self, count: usize) {
        if count > self.rows.len() {
            make_room(&mut self.rows, count);
            self.rows.resize_with(count, || None);
            self.marks.resize(count);
            if self.clock.is_on() {
                self.accessed.resize(count, i64::MAX);
            }
        }
    }

    fn set_now(&mut self, now_ms: i64) {
        self.clock.set(now_ms);
    }

    fn track_changes(&mut self) {
        self.marks.track();
    }

    fn take_vacated(&mut self, into: &mut Vec<Slot>) {
        self.measure_lent();
        into.append(&mut self.vacated);
    }

    fn is_vacant(&self, slot: Slot) -> bool {
        !self.has(slot) && !self.marks.is_saved(slot)
    }

    fn sweep(&mut self, rows: usize) {
        if self.restored.is_some() {
            self.settle_rows(rows / 2);
        }
        if !self.clock.is_on() || self.rows.is_empty() {
            return;
        }
        for _ in 0..rows.min(self.rows.len()) {
            self.next_sweep = (self.next_sweep + 1) % self.rows.len();
            let slot = self.next_sweep as Slot;
            if self.has(slot) {
                self.drop_expired(slot);
            }
        }
    }

    fn changes(&mut self, full: bool, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        self.measure_lent();
        let dirty = self.marks.take();
        if !full {
            return self.write(&dirty, out);
        }
        // A removal that no snapshot has said needs not be said any more.
        for slot in &dirty {
            if !self.has(*slot) {
                self.vacated.push(*slot);
            }
            self.marks.set_saved(*slot, false);
        }
        for slot in 0..self.rows.len() as Slot {
            if self.is_expired(slot) {
                self.marks.set_saved(slot, false);
            }
        }
        let live = |slot: &Slot| self.has(*slot) && !self.is_expired(*slot);
        let all: Vec<Slot> = (0..self.rows.len() as Slot).filter(live).collect();
        self.write(&all, out)
    }

    fn changes_of(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        self.measure_lent();
        let dirty = self.marks.take_of(slots);
        self.write(&dirty, out)
    }

    fn restore(&mut self, rows: &TableRows<'_>) -> Result<(), StateError> {
        let columns =
            T::columns(&rows.value, None).map_err(|error| wrong_columns(&self.descriptor, &error))?;
        if let Some(bytes) = rows.kept_bytes.filter(|_| self.has_heap) {
            self.adopt(columns, bytes, rows);
            return Ok(());
        }
        for (row, slot) in rows.slots.iter().enumerate() {
            self.marks.set_saved(*slot, true);
            if self.clock.is_expired(rows.accessed(row)) {
                // Its file still has it: the next snapshot says that it is gone.
                self.marks.touch(*slot);
                self.vacated.push(*slot);
                continue;
            }
            let value = T::row(&columns, row);
            self.heap += T::heap_bytes(value);
            self.rows[*slot as usize] = Some(T::own(value));
            if self.clock.is_on() {
                self.accessed[*slot as usize] = rows.accessed(row);
            }
        }
        Ok(())
    }

    fn memory_size(&self) -> usize {
        self.heap
            + self.rows.capacity() * size_of::<Option<T>>()
            + self.accessed.capacity() * size_of::<i64>()
            + self.vacated.capacity() * size_of::<Slot>()
            + self.marks.memory_size()
            + self
                .restored
                .as_ref()
                .map_or(0, |restored| restored.memory_size())
    }

    fn settle(&mut self) {
        self.settle_rows(usize::MAX);
    }

    fn reserve(&mut self, slots: usize) {
        self.rows.reserve_exact(slots);
        self.marks.reserve(slots);
    }

    fn slack(&self, live: usize) -> usize {
        unused(&self.rows, live) + unused(&self.accessed, live) + self.marks.slack(live)
    }

    fn image(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        self.measure_lent();
        let mut rows = T::builders(slots.len().min(out.batch_rows()));
        let mut accessed = Int64Builder::new();
        for slot in slots {
            let Some(value) = view(&self.rows, &self.restored, *slot) else {
                continue;
            };
            out.note(*slot, ChangeKind::Upsert);
            T::push(&mut rows, value);
            if self.clock.is_on() {
                accessed.append_value(self.accessed[*slot as usize]);
            }
            if out.is_full(T::builders_bytes(&rows)) {
                out.flush(self.columns(&mut rows, &mut accessed))?;
            }
        }
        out.flush(self.columns(&mut rows, &mut accessed))
    }

    fn evict(&mut self, slots: &[Slot]) {
        self.measure_lent();
        for slot in slots {
            self.forget_restored(*slot);
            self.heap -= heap_of(self.rows[*slot as usize].as_ref());
            self.rows[*slot as usize] = None;
            self.marks.forget(*slot);
        }
    }

    fn mark_saved(&mut self) {
        self.measure_lent();
        self.marks.take();
        for slot in 0..self.rows.len() as Slot {
            let is_there = self.has(slot);
            if !is_there && self.marks.is_saved(slot) {
                self.vacated.push(slot);
            }
            self.marks.set_saved(slot, is_there);
        }
    }

    fn shrink(&mut self, count: usize) {
        self.rows.truncate(count);
        self.rows.shrink_to_fit();
        self.accessed.truncate(count);
        self.accessed.shrink_to_fit();
        self.marks.shrink(count);
        self.vacated.retain(|slot| (*slot as usize) < count);
        self.next_sweep = 0;
    }

    #[cfg(test)]
    fn assert_memory_is_exact(&self) {
        let held = self.rows.iter().map(|row| heap_of(row.as_ref()));
        assert_eq!(self.heap, held.sum::<usize>(), "{}", self.descriptor.name);
    }

    fn add_slot_bytes(&self, bytes: &mut [usize]) {
        for (slot, sum) in bytes.iter_mut().enumerate().take(self.rows.len()) {
            let value = view(&self.rows, &self.restored, slot as Slot);
            *sum += size_of::<Option<T>>() + value.map_or(0, T::heap_bytes);
        }
    }
}
