//! A list a key.
//!
//! Rows are told apart by position. Positions count up from the list's first element ever; they begin anew when the whole list
//! was rewritten. So adding to a list costs the new elements in a snapshot, not the list.
//!
//! ```text
//!   position   0 .. start | start ........ clean | clean ......... start + items
//!              expired    | as in the snapshot   | written since
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Builder};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use thalweg_types::record::Record;

use super::marks::Marks;
use super::ttl::TtlClock;
use super::{ChangeWriter, StateTtl, Table, TableRows, make_room, unused, wrong_columns};
use crate::key_index::Slot;
use crate::snapshot::{ChangeKind, StateError, TableDescriptor};

/// Lists of `T` by slot: Flink's ListState. Elements expire one by one.
///
/// Slots come from [`crate::KeyedState::begin_batch`] or a timer; another one panics.
pub struct ListTable<T: Record> {
    descriptor: Arc<TableDescriptor>,
    lists: Vec<List<T>>,
    clock: TtlClock,
    marks: Marks,
    /// What the lists and their elements hold besides their own size.
    heap: usize,
    vacated: Vec<Slot>,
    next_sweep: usize,
}

struct List<T> {
    items: Vec<T>,
    /// When each item was last used, never falling; empty without time-to-live.
    accessed: Vec<i64>,
    /// Position of the first item.
    start: i64,
    /// Items before this position are as in the last snapshot.
    clean: i64,
    /// Positions in the last snapshot.
    saved: Range<i64>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            accessed: Vec::new(),
            start: 0,
            clean: 0,
            saved: 0..0,
        }
    }
}

impl<T: Record> List<T> {
    fn end(&self) -> i64 {
        self.start + self.items.len() as i64
    }

    fn capacity_bytes(&self) -> usize {
        self.items.capacity() * size_of::<T>() + self.accessed.capacity() * size_of::<i64>()
    }

    fn heap_bytes(&self) -> usize {
        let items = self.items.iter().map(|item| T::heap_bytes(T::view(item)));
        self.capacity_bytes() + items.sum::<usize>()
    }

    /// How many of the first items are expired.
    fn expired(&self, clock: &TtlClock) -> usize {
        self.accessed
            .partition_point(|accessed| clock.is_expired(*accessed))
    }
}

/// The column that tells a list's rows apart.
pub(crate) fn position_field() -> FieldRef {
    Arc::new(Field::new("position", DataType::Int64, false))
}

impl<T: Record> ListTable<T> {
    pub(crate) fn new(descriptor: Arc<TableDescriptor>, ttl: Option<StateTtl>) -> Self {
        Self {
            descriptor,
            lists: Vec::new(),
            clock: TtlClock::new(ttl),
            marks: Marks::default(),
            heap: 0,
            vacated: Vec::new(),
            next_sweep: 0,
        }
    }

    /// The key's elements, oldest first; none and an empty list are the same.
    pub fn get(&mut self, slot: Slot) -> &[T] {
        if !self.clock.is_on() {
            return &self.lists[slot as usize].items;
        }
        if self.clock.updates_on_read() {
            self.drop_expired(slot, 1);
            self.use_all(slot);
        }
        self.peek(slot)
    }

    /// The key's elements, without being a use of them.
    pub fn peek(&self, slot: Slot) -> &[T] {
        let list = &self.lists[slot as usize];
        if !self.clock.is_on() || self.clock.returns_expired() {
            return &list.items;
        }
        &list.items[list.expired(&self.clock)..]
    }

    /// Adds an element at the end.
    #[inline]
    pub fn add(&mut self, slot: Slot, item: T) {
        self.drop_expired(slot, 2);
        self.marks.touch(slot);
        let list = &mut self.lists[slot as usize];
        let before = list.capacity_bytes();
        self.heap += T::heap_bytes(T::view(&item));
        list.items.push(item);
        if self.clock.is_on() {
            list.accessed.push(self.clock.now());
        }
        self.heap = self.heap + list.capacity_bytes() - before;
    }

    /// Adds elements at the end.
    pub fn add_all(&mut self, slot: Slot, items: impl IntoIterator<Item = T>) {
        items.into_iter().for_each(|item| self.add(slot, item));
    }

    /// Replaces the list.
    pub fn update(&mut self, slot: Slot, items: impl IntoIterator<Item = T>) {
        self.clear(slot);
        self.add_all(slot, items);
    }

    /// Removes all elements.
    pub fn clear(&mut self, slot: Slot) {
        let list = &mut self.lists[slot as usize];
        if list.items.is_empty() {
            return;
        }
        self.heap -= list.heap_bytes();
        list.items = Vec::new();
        list.accessed = Vec::new();
        list.start = 0;
        list.clean = 0;
        if !list.saved.is_empty() {
            self.marks.touch(slot);
        }
        self.vacated.push(slot);
    }

    /// All elements are used now, which is a write of all of them.
    fn use_all(&mut self, slot: Slot) {
        let now = self.clock.now();
        let list = &mut self.lists[slot as usize];
        if list.accessed.first().is_some_and(|accessed| *accessed != now) {
            list.accessed.fill(now);
            list.clean = list.start;
            self.marks.touch(slot);
        }
    }

    /// Removes the expired elements if they are at least one of so many; so that adding costs the same all the time.
    fn drop_expired(&mut self, slot: Slot, share: usize) {
        if !self.clock.is_on() {
            return;
        }
        let list = &mut self.lists[slot as usize];
        let expired = list.expired(&self.clock);
        if expired == 0 || expired * share < list.items.len() {
            return;
        }
        if expired == list.items.len() {
            return self.clear(slot);
        }
        let dropped = list.items.drain(..expired);
        self.heap -= dropped.map(|item| T::heap_bytes(T::view(&item))).sum::<usize>();
        list.accessed.drain(..expired);
        list.start += expired as i64;
        if !list.saved.is_empty() {
            self.marks.touch(slot);
        }
    }

    fn write(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let mut positions = Int64Builder::new();
        let mut items = T::builders(slots.len().min(out.batch_rows()));
        let mut accessed = Int64Builder::new();
        // A rewritten list: its old rows go all at once, and before the new ones come.
        for slot in slots {
            let list = &mut self.lists[*slot as usize];
            let is_rewritten = list.clean <= list.start && !list.saved.is_empty();
            if !is_rewritten {
                continue;
            }
            list.saved = 0..0;
            list.start = 0;
            list.clean = 0;
            out.note(*slot, ChangeKind::DeleteKey);
            positions.append_null();
            T::push_null(&mut items);
            accessed.append_null();
            if list.items.is_empty() {
                self.vacated.push(*slot);
            }
            if out.is_full(0) {
                out.flush(columns::<T>(
                    &self.clock,
                    &mut positions,
                    &mut items,
                    &mut accessed,
                ))?;
            }
        }
        for slot in slots {
            let expired = self.lists[*slot as usize].expired(&self.clock) as i64;
            let list = &mut self.lists[*slot as usize];
            let first = list.start + expired;
            let end = list.end();
            let saved = std::mem::replace(&mut list.saved, first..end);
            let written = list.clean.max(first)..end;
            list.clean = end;
            for position in saved.start..saved.end.min(first) {
                out.note(*slot, ChangeKind::Delete);
                positions.append_value(position);
                T::push_null(&mut items);
                accessed.append_null();
            }
            for position in written {
                let place = (position - list.start) as usize;
                out.note(*slot, ChangeKind::Upsert);
                positions.append_value(position);
                T::push(&mut items, T::view(&list.items[place]));
                accessed.append_option(list.accessed.get(place).copied());
                if out.is_full(T::builders_bytes(&items)) {
                    out.flush(columns::<T>(
                        &self.clock,
                        &mut positions,
                        &mut items,
                        &mut accessed,
                    ))?;
                }
            }
            if !self.marks.is_tracking() {
                list.saved = 0..0;
            }
        }
        out.flush(columns::<T>(
            &self.clock,
            &mut positions,
            &mut items,
            &mut accessed,
        ))
    }
}

fn columns<T: Record>(
    clock: &TtlClock,
    positions: &mut Int64Builder,
    items: &mut T::Builders,
    accessed: &mut Int64Builder,
) -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> = vec![Arc::new(positions.finish())];
    columns.extend(T::finish_columns(items));
    let accessed = accessed.finish();
    if clock.is_on() {
        columns.push(Arc::new(accessed));
    }
    columns
}

impl<T: Record> Table for ListTable<T> {
    fn descriptor(&self) -> &Arc<TableDescriptor> {
        &self.descriptor
    }

    fn resize(&mut self, count: usize) {
        if count > self.lists.len() {
            make_room(&mut self.lists, count);
            self.lists.resize_with(count, List::default);
            self.marks.resize(count);
        }
    }

    fn set_now(&mut self, now_ms: i64) {
        self.clock.set(now_ms);
    }

    fn track_changes(&mut self) {
        self.marks.track();
    }

    fn take_vacated(&mut self, into: &mut Vec<Slot>) {
        into.append(&mut self.vacated);
    }

    fn is_vacant(&self, slot: Slot) -> bool {
        let list = &self.lists[slot as usize];
        list.items.is_empty() && list.saved.is_empty()
    }

    fn sweep(&mut self, rows: usize) {
        if !self.clock.is_on() || self.lists.is_empty() {
            return;
        }
        for _ in 0..rows.min(self.lists.len()) {
            self.next_sweep = (self.next_sweep + 1) % self.lists.len();
            self.drop_expired(self.next_sweep as Slot, 2);
        }
    }

    fn changes(&mut self, full: bool, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let dirty = self.marks.take();
        if !full {
            return self.write(&dirty, out);
        }
        for (slot, list) in self.lists.iter_mut().enumerate() {
            list.saved = 0..0;
            list.start = 0;
            list.clean = 0;
            if list.items.is_empty() {
                self.vacated.push(slot as Slot);
            }
        }
        let all: Vec<Slot> = (0..self.lists.len() as Slot)
            .filter(|slot| !self.lists[*slot as usize].items.is_empty())
            .collect();
        self.write(&all, out)
    }

    fn changes_of(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let dirty = self.marks.take_of(slots);
        self.write(&dirty, out)
    }

    fn restore(&mut self, rows: &TableRows<'_>) -> Result<(), StateError> {
        let items = T::columns(&rows.value, None).map_err(|error| wrong_columns(&self.descriptor, &error))?;
        let positions = rows.sub_key[0].as_primitive::<Int64Type>();
        for (row, slot) in rows.slots.iter().enumerate() {
            let position = positions.value(row);
            let list = &mut self.lists[*slot as usize];
            let before = list.capacity_bytes();
            if list.items.is_empty() {
                list.start = position;
            }
            if position != list.end() {
                return Err(StateError::Incompatible {
                    state: self.descriptor.name.clone(),
                    message: format!(
                        "position {position} of a list stands where {} is expected",
                        list.end()
                    ),
                });
            }
            if self.marks.is_tracking() {
                list.saved = list.start..position + 1;
            }
            let item = T::row(&items, row);
            list.items.push(T::own(item));
            if self.clock.is_on() {
                list.accessed.push(rows.accessed(row));
            }
            list.clean = list.end();
            self.heap = self.heap + list.capacity_bytes() - before + T::heap_bytes(item);
        }
        Ok(())
    }

    fn memory_size(&self) -> usize {
        self.heap
            + self.lists.capacity() * size_of::<List<T>>()
            + self.vacated.capacity() * size_of::<Slot>()
            + self.marks.memory_size()
    }

    fn slack(&self, live: usize) -> usize {
        unused(&self.lists, live) + self.marks.slack(live)
    }

    fn image(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let mut positions = Int64Builder::new();
        let mut items = T::builders(slots.len().min(out.batch_rows()));
        let mut accessed = Int64Builder::new();
        for slot in slots {
            let list = &self.lists[*slot as usize];
            for (place, item) in list.items.iter().enumerate() {
                out.note(*slot, ChangeKind::Upsert);
                positions.append_value(list.start + place as i64);
                T::push(&mut items, T::view(item));
                accessed.append_option(list.accessed.get(place).copied());
                if out.is_full(T::builders_bytes(&items)) {
                    out.flush(columns::<T>(
                        &self.clock,
                        &mut positions,
                        &mut items,
                        &mut accessed,
                    ))?;
                }
            }
        }
        out.flush(columns::<T>(
            &self.clock,
            &mut positions,
            &mut items,
            &mut accessed,
        ))
    }

    fn evict(&mut self, slots: &[Slot]) {
        for slot in slots {
            let list = std::mem::take(&mut self.lists[*slot as usize]);
            self.heap -= list.heap_bytes();
            self.marks.forget(*slot);
        }
    }

    fn mark_saved(&mut self) {
        self.marks.take();
        for (slot, list) in self.lists.iter_mut().enumerate() {
            if list.items.is_empty() {
                if !list.saved.is_empty() {
                    self.vacated.push(slot as Slot);
                }
                *list = List::default();
            } else {
                list.clean = list.end();
                list.saved = if self.marks.is_tracking() {
                    list.start..list.end()
                } else {
                    0..0
                };
            }
        }
    }

    fn shrink(&mut self, count: usize) {
        self.lists.truncate(count);
        self.lists.shrink_to_fit();
        self.marks.shrink(count);
        self.vacated.retain(|slot| (*slot as usize) < count);
        self.next_sweep = 0;
    }

    #[cfg(test)]
    fn assert_memory_is_exact(&self) {
        let held = self.lists.iter().map(List::heap_bytes);
        assert_eq!(self.heap, held.sum::<usize>(), "{}", self.descriptor.name);
    }

    fn add_slot_bytes(&self, bytes: &mut [usize]) {
        for (sum, list) in bytes.iter_mut().zip(&self.lists) {
            *sum += size_of::<List<T>>() + list.heap_bytes();
        }
    }
}
