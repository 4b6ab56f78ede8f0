//! A list a key and window: the elements that a window keeps until it fires.
//!
//! ```text
//!   (slot, window) --hash table--> cell: elements | how many are in the snapshots | how many of those are unchanged
//! ```
//!
//! Rows are told apart by window and position from 0, so that adding costs the new elements in a snapshot. A window's end
//! says for each of its stored rows that it is gone: each was paid for by a row before.
//!
//! Invariants: a cell without elements is there only while the next snapshot must say so; a cell's place stands in
//! [`Changed`] once, whoever has the place.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Builder};
use arrow::datatypes::Int64Type;
use hashbrown::{DefaultHashBuilder, HashTable};
use thalweg_types::record::Record;

use super::marks::Changed;
use super::{ChangeWriter, Table, TableRows, make_room, unused, wrong_columns};
use crate::key_index::Slot;
use crate::snapshot::{ChangeKind, StateError, TableDescriptor};
use crate::timers::WindowNamespace;

/// Lists of `T` by slot and window.
///
/// Slots come from [`crate::KeyedState::begin_batch`] or a timer; another one panics.
pub struct WindowListTable<T: Record> {
    descriptor: Arc<TableDescriptor>,
    hasher: DefaultHashBuilder,
    places: HashTable<u32>,
    cells: Vec<Option<Cell<T>>>,
    free: Vec<u32>,
    /// The first cell of each slot.
    firsts: Vec<u32>,
    tracking: bool,
    /// Places that were written.
    changed: Changed,
    /// What the lists and their elements hold besides the cells.
    heap: usize,
    vacated: Vec<Slot>,
}

/// No cell.
const NONE: u32 = u32::MAX;

struct Cell<T> {
    slot: Slot,
    previous: u32,
    next: u32,
    window: WindowNamespace,
    items: Vec<T>,
    /// Rows in the last snapshot.
    saved: usize,
    /// How many of the first items are as there.
    clean: usize,
}

impl<T: Record> Cell<T> {
    fn heap_bytes(&self) -> usize {
        let items = self.items.iter().map(|item| T::heap_bytes(T::view(item)));
        self.items.capacity() * size_of::<T>() + items.sum::<usize>()
    }
}

impl<T: Record> WindowListTable<T> {
    pub(crate) fn new(descriptor: Arc<TableDescriptor>) -> Self {
        Self {
            descriptor,
            hasher: DefaultHashBuilder::default(),
            places: HashTable::new(),
            cells: Vec::new(),
            free: Vec::new(),
            firsts: Vec::new(),
            tracking: false,
            changed: Changed::default(),
            heap: 0,
            vacated: Vec::new(),
        }
    }

    /// The window's elements, oldest first; none and an empty list are the same.
    pub fn get(&self, slot: Slot, window: WindowNamespace) -> &[T] {
        let cell = self
            .find(slot, window)
            .and_then(|place| self.cells[place as usize].as_ref());
        cell.map_or(&[], |cell| &cell.items)
    }

    /// Adds an element at the end.
    #[inline]
    pub fn add(&mut self, slot: Slot, window: WindowNamespace, item: T) {
        let place = self.find_or_insert(slot, window);
        self.touch(place);
        let Some(cell) = &mut self.cells[place as usize] else {
            return;
        };
        let before = cell.items.capacity();
        self.heap += T::heap_bytes(T::view(&item));
        cell.items.push(item);
        self.heap += (cell.items.capacity() - before) * size_of::<T>();
    }

    /// Adds elements at the end.
    pub fn add_all(&mut self, slot: Slot, window: WindowNamespace, items: impl IntoIterator<Item = T>) {
        items.into_iter().for_each(|item| self.add(slot, window, item));
    }

    /// Removes the window's elements and gives them: when it is purged, or merged into another one.
    pub fn take(&mut self, slot: Slot, window: WindowNamespace) -> Vec<T> {
        let Some(place) = self.find(slot, window) else {
            return Vec::new();
        };
        let Some(cell) = &mut self.cells[place as usize] else {
            return Vec::new();
        };
        self.heap -= cell.heap_bytes();
        cell.clean = 0;
        let items = std::mem::take(&mut cell.items);
        if cell.saved > 0 {
            self.touch(place);
        } else {
            self.forget(place);
        }
        items
    }

    /// Removes the window's elements.
    pub fn clear(&mut self, slot: Slot, window: WindowNamespace) {
        self.take(slot, window);
    }

    fn find(&self, slot: Slot, window: WindowNamespace) -> Option<u32> {
        let hash = self.hasher.hash_one((slot, window));
        let is_it = |place: &u32| {
            let cell = self.cells[*place as usize].as_ref();
            cell.is_some_and(|cell| cell.slot == slot && cell.window == window)
        };
        self.places.find(hash, is_it).copied()
    }

    fn find_or_insert(&mut self, slot: Slot, window: WindowNamespace) -> u32 {
        if let Some(place) = self.find(slot, window) {
            return place;
        }
        let first = self.firsts[slot as usize];
        let cell = Cell {
            slot,
            previous: NONE,
            next: first,
            window,
            items: Vec::new(),
            saved: 0,
            clean: 0,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.cells[place as usize] = Some(cell);
                place
            }
            None => {
                let len = self.cells.len() + 1;
                make_room(&mut self.cells, len);
                self.cells.push(Some(cell));
                self.changed.add_place();
                (self.cells.len() - 1) as u32
            }
        };
        self.firsts[slot as usize] = place;
        self.link(first, |cell| cell.previous = place);
        let Self { cells, hasher, .. } = self;
        let hash = hasher.hash_one((slot, window));
        self.places.insert_unique(hash, place, |place| {
            let cell = cells[*place as usize].as_ref();
            cell.map_or(0, |cell| hasher.hash_one((cell.slot, cell.window)))
        });
        place
    }

    #[inline]
    fn touch(&mut self, place: u32) {
        if self.tracking {
            self.changed.touch(place);
        }
    }

    /// Frees the place of an empty list.
    fn forget(&mut self, place: u32) {
        let Some(cell) = self.cells[place as usize].take() else {
            return;
        };
        self.changed.forget(place);
        let hash = self.hasher.hash_one((cell.slot, cell.window));
        if let Ok(found) = self.places.find_entry(hash, |found| *found == place) {
            found.remove();
        }
        self.free.push(place);
        self.link(cell.next, |next| next.previous = cell.previous);
        match cell.previous {
            NONE => self.firsts[cell.slot as usize] = cell.next,
            previous => self.link(previous, |previous| previous.next = cell.next),
        }
        if self.firsts[cell.slot as usize] == NONE {
            self.vacated.push(cell.slot);
        }
    }

    fn link(&mut self, place: u32, change: impl FnOnce(&mut Cell<T>)) {
        if place != NONE
            && let Some(cell) = &mut self.cells[place as usize]
        {
            change(cell);
        }
    }

    fn write(&mut self, places: &[u32], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let mut rows = Rows::<T>::new(places.len().min(out.batch_rows()));
        for place in places {
            let Some(cell) = &mut self.cells[*place as usize] else {
                continue;
            };
            for position in cell.items.len()..cell.saved {
                rows.change(cell, position, ChangeKind::Delete, out)?;
            }
            for position in cell.clean..cell.items.len() {
                rows.change(cell, position, ChangeKind::Upsert, out)?;
            }
            cell.clean = cell.items.len();
            cell.saved = if self.tracking { cell.items.len() } else { 0 };
            if cell.items.is_empty() {
                self.forget(*place);
            }
        }
        rows.finish(out)
    }
}

/// Builds the columns of changes.
struct Rows<T: Record> {
    starts: Int64Builder,
    ends: Int64Builder,
    positions: Int64Builder,
    items: T::Builders,
}

impl<T: Record> Rows<T> {
    fn new(capacity: usize) -> Self {
        Self {
            starts: Int64Builder::with_capacity(capacity),
            ends: Int64Builder::with_capacity(capacity),
            positions: Int64Builder::with_capacity(capacity),
            items: T::builders(capacity),
        }
    }

    fn change(
        &mut self,
        cell: &Cell<T>,
        position: usize,
        kind: ChangeKind,
        out: &mut ChangeWriter<'_>,
    ) -> Result<(), StateError> {
        out.note(cell.slot, kind);
        self.starts.append_value(cell.window.0);
        self.ends.append_value(cell.window.1);
        self.positions.append_value(position as i64);
        match kind {
            ChangeKind::Upsert => T::push(&mut self.items, T::view(&cell.items[position])),
            _ => T::push_null(&mut self.items),
        }
        if out.is_full(T::builders_bytes(&self.items)) {
            return self.finish(out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.starts.finish()),
            Arc::new(self.ends.finish()),
            Arc::new(self.positions.finish()),
        ];
        columns.extend(T::finish_columns(&mut self.items));
        out.flush(columns)
    }
}

impl<T: Record> Table for WindowListTable<T> {
    fn descriptor(&self) -> &Arc<TableDescriptor> {
        &self.descriptor
    }

    fn resize(&mut self, count: usize) {
        if count > self.firsts.len() {
            make_room(&mut self.firsts, count);
            self.firsts.resize(count, NONE);
        }
    }

    fn set_now(&mut self, _now_ms: i64) {}

    fn track_changes(&mut self) {
        self.tracking = true;
    }

    fn take_vacated(&mut self, into: &mut Vec<Slot>) {
        into.append(&mut self.vacated);
    }

    fn is_vacant(&self, slot: Slot) -> bool {
        self.firsts[slot as usize] == NONE
    }

    fn sweep(&mut self, _rows: usize) {}

    fn changes(&mut self, full: bool, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let dirty = self.changed.take();
        if !full {
            return self.write(&dirty, out);
        }
        for cell in self.cells.iter_mut().flatten() {
            cell.saved = 0;
            cell.clean = 0;
        }
        let all: Vec<u32> = (0..self.cells.len() as u32).collect();
        self.write(&all, out)
    }

    fn changes_of(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let mut dirty = Vec::new();
        for slot in slots {
            let mut place = self.firsts[*slot as usize];
            while place != NONE {
                if self.changed.take_of(place) {
                    dirty.push(place);
                }
                place = self.cells[place as usize].as_ref().map_or(NONE, |cell| cell.next);
            }
        }
        self.write(&dirty, out)
    }

    fn restore(&mut self, rows: &TableRows<'_>) -> Result<(), StateError> {
        let items = T::columns(&rows.value, None).map_err(|error| wrong_columns(&self.descriptor, &error))?;
        let [starts, ends, positions] =
            [0, 1, 2].map(|column: usize| rows.sub_key[column].as_primitive::<Int64Type>());
        for (row, slot) in rows.slots.iter().enumerate() {
            let place = self.find_or_insert(*slot, (starts.value(row), ends.value(row)));
            let Some(cell) = &mut self.cells[place as usize] else {
                continue;
            };
            // Rows come by key, window and position.
            if positions.value(row) != cell.items.len() as i64 {
                return Err(StateError::Incompatible {
                    state: self.descriptor.name.clone(),
                    message: format!(
                        "position {} of a window's list stands where {} is expected",
                        positions.value(row),
                        cell.items.len()
                    ),
                });
            }
            let item = T::row(&items, row);
            let before = cell.items.capacity();
            cell.items.push(T::own(item));
            self.heap += (cell.items.capacity() - before) * size_of::<T>() + T::heap_bytes(item);
            cell.clean = cell.items.len();
            cell.saved = if self.tracking { cell.items.len() } else { 0 };
        }
        Ok(())
    }

    fn memory_size(&self) -> usize {
        self.heap
            + self.places.allocation_size()
            + self.cells.capacity() * size_of::<Option<Cell<T>>>()
            + self.free.capacity() * size_of::<u32>()
            + self.changed.memory_size()
            + (self.firsts.capacity() + self.vacated.capacity()) * size_of::<u32>()
    }

    fn slack(&self, live: usize) -> usize {
        unused(&self.cells, self.cells.len() - self.free.len()) + unused(&self.firsts, live)
    }

    fn image(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let mut rows = Rows::<T>::new(slots.len().min(out.batch_rows()));
        for slot in slots {
            let mut place = self.firsts[*slot as usize];
            while place != NONE
                && let Some(cell) = &self.cells[place as usize]
            {
                for position in 0..cell.items.len() {
                    rows.change(cell, position, ChangeKind::Upsert, out)?;
                }
                place = cell.next;
            }
        }
        rows.finish(out)
    }

    fn evict(&mut self, slots: &[Slot]) {
        for slot in slots {
            while self.firsts[*slot as usize] != NONE {
                let place = self.firsts[*slot as usize];
                let bytes = self.cells[place as usize].as_ref().map_or(0, Cell::heap_bytes);
                self.heap -= bytes;
                self.forget(place);
            }
        }
    }

    fn mark_saved(&mut self) {
        self.changed.take();
        for place in 0..self.cells.len() as u32 {
            let Some(cell) = &mut self.cells[place as usize] else {
                continue;
            };
            cell.clean = cell.items.len();
            cell.saved = if self.tracking { cell.items.len() } else { 0 };
            if cell.items.is_empty() {
                self.forget(place);
            }
        }
    }

    fn shrink(&mut self, count: usize) {
        self.firsts.truncate(count);
        self.firsts.shrink_to_fit();
        self.vacated.retain(|slot| (*slot as usize) < count);
        if self.places.is_empty() {
            self.cells = Vec::new();
            self.free = Vec::new();
            self.changed = Changed::default();
            self.places.shrink_to(0, |_| 0);
        }
    }

    #[cfg(test)]
    fn assert_memory_is_exact(&self) {
        let held = self.cells.iter().flatten().map(Cell::heap_bytes);
        assert_eq!(self.heap, held.sum::<usize>(), "{}", self.descriptor.name);
        assert_eq!(self.places.len() + self.free.len(), self.cells.len());
    }

    fn add_slot_bytes(&self, bytes: &mut [usize]) {
        for cell in self.cells.iter().flatten() {
            bytes[cell.slot as usize] += size_of::<Option<Cell<T>>>() + cell.heap_bytes();
        }
    }
}
