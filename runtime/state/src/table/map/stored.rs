//! A table of maps to and from its stored rows.

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder};
use thalweg_types::record::Record;

use super::super::marks::Changed;
use super::super::ttl::TtlClock;
use super::super::{ChangeWriter, Table, TableRows, make_room, unused, wrong_columns};
use super::{EMPTY, Entry, Map, MapTable, NONE, entry_mut, entry_of};
use crate::key_index::Slot;
use crate::snapshot::{ChangeKind, StateError, TableDescriptor};

impl<K: Record + Hash + Eq, V: Record> MapTable<K, V> {
    /// Writes these entries; before them, that the maps of those of the slots `cleared` are gone which are marked so.
    fn write(
        &mut self,
        cleared: &[Slot],
        places: &[u32],
        out: &mut ChangeWriter<'_>,
    ) -> Result<(), StateError> {
        let mut rows = Rows::<K, V>::new(places.len().min(out.batch_rows()), self.clock);
        for slot in cleared {
            let map = &mut self.maps[*slot as usize];
            if !std::mem::take(&mut map.is_cleared) {
                continue;
            }
            map.is_saved = false;
            self.vacated.push(*slot);
            rows.delete_key(*slot, out)?;
        }
        for place in places {
            let Some(entry) = &mut self.entries[*place as usize] else {
                continue;
            };
            let slot = entry.slot;
            let kept = entry
                .value
                .as_ref()
                .filter(|_| !self.clock.is_expired(entry.accessed));
            let was_saved = entry.is_saved;
            let is_removed = entry.value.is_none();
            entry.is_saved = kept.is_some() && self.changes.tracking;
            if kept.is_some() || was_saved {
                self.maps[slot as usize].is_saved |= self.changes.tracking;
                rows.change(slot, &entry.key, kept, entry.accessed, out)?;
            }
            if is_removed {
                self.unlink(*place);
                self.vacated.push(slot);
            }
        }
        rows.finish(out)
    }
}

/// Builds the columns of changes.
struct Rows<K: Record, V: Record> {
    keys: K::Builders,
    values: V::Builders,
    accessed: Int64Builder,
    clock: TtlClock,
}

impl<K: Record, V: Record> Rows<K, V> {
    fn new(capacity: usize, clock: TtlClock) -> Self {
        Self {
            keys: K::builders(capacity),
            values: V::builders(capacity),
            accessed: Int64Builder::new(),
            clock,
        }
    }

    fn delete_key(&mut self, slot: Slot, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        out.note(slot, ChangeKind::DeleteKey);
        K::push_null(&mut self.keys);
        V::push_null(&mut self.values);
        self.accessed.append_null();
        self.flush_if_full(out)
    }

    fn change(
        &mut self,
        slot: Slot,
        key: &K,
        value: Option<&V>,
        accessed: i64,
        out: &mut ChangeWriter<'_>,
    ) -> Result<(), StateError> {
        K::push(&mut self.keys, K::view(key));
        match value {
            Some(value) => {
                out.note(slot, ChangeKind::Upsert);
                V::push(&mut self.values, V::view(value));
            }
            None => {
                out.note(slot, ChangeKind::Delete);
                V::push_null(&mut self.values);
            }
        }
        self.accessed.append_option(value.map(|_| accessed));
        self.flush_if_full(out)
    }

    fn flush_if_full(&mut self, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        if out.is_full(K::builders_bytes(&self.keys) + V::builders_bytes(&self.values)) {
            return self.finish(out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let mut columns: Vec<ArrayRef> = K::finish_columns(&mut self.keys);
        columns.extend(V::finish_columns(&mut self.values));
        let accessed = self.accessed.finish();
        if self.clock.is_on() {
            columns.push(Arc::new(accessed));
        }
        out.flush(columns)
    }
}

impl<K: Record + Hash + Eq, V: Record> Table for MapTable<K, V> {
    fn descriptor(&self) -> &Arc<TableDescriptor> {
        &self.descriptor
    }

    fn resize(&mut self, count: usize) {
        if count > self.maps.len() {
            make_room(&mut self.maps, count);
            self.maps.resize(count, EMPTY);
        }
    }

    fn set_now(&mut self, now_ms: i64) {
        self.clock.set(now_ms);
    }

    fn track_changes(&mut self) {
        self.changes.tracking = true;
    }

    fn take_vacated(&mut self, into: &mut Vec<Slot>) {
        self.measure_lent();
        into.append(&mut self.vacated);
    }

    fn is_vacant(&self, slot: Slot) -> bool {
        let map = &self.maps[slot as usize];
        map.first == NONE && !map.is_cleared
    }

    fn release(&mut self, slot: Slot) {
        self.maps[slot as usize] = EMPTY;
    }

    fn sweep(&mut self, rows: usize) {
        if !self.clock.is_on() || self.entries.is_empty() {
            return;
        }
        self.measure_lent();
        for _ in 0..rows.min(self.entries.len()) {
            self.next_sweep = (self.next_sweep + 1) % self.entries.len();
            if self.entries[self.next_sweep].is_some() {
                self.drop_expired(self.next_sweep as u32);
            }
        }
    }

    fn changes(&mut self, full: bool, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        self.measure_lent();
        let dirty = self.changes.written.take();
        let cleared = std::mem::take(&mut self.changes.cleared);
        if !full {
            return self.write(&cleared, &dirty, out);
        }
        for slot in cleared {
            self.maps[slot as usize].is_cleared = false;
            self.vacated.push(slot);
        }
        for map in &mut self.maps {
            map.is_saved = false;
        }
        for entry in self.entries.iter_mut().flatten() {
            entry.is_saved = false;
        }
        let all: Vec<u32> = (0..self.entries.len() as u32).collect();
        self.write(&[], &all, out)
    }

    fn changes_of(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        self.measure_lent();
        let mut dirty = Vec::new();
        for slot in slots {
            let mut place = self.maps[*slot as usize].first;
            while place != NONE {
                if self.changes.written.take_of(place) {
                    dirty.push(place);
                }
                place = self.entry(place).next;
            }
        }
        self.write(slots, &dirty, out)
    }

    fn restore(&mut self, rows: &TableRows<'_>) -> Result<(), StateError> {
        let wrong = |error| wrong_columns(&self.descriptor, &error);
        let keys = K::columns(&rows.sub_key, None).map_err(wrong)?;
        let values = V::columns(&rows.value, None).map_err(wrong)?;
        for (row, slot) in rows.slots.iter().enumerate() {
            let place = self.find_or_insert(*slot, K::own(K::row(&keys, row)));
            self.maps[*slot as usize].is_saved = self.changes.tracking;
            let entry = entry_mut(&mut self.entries, place);
            entry.is_saved = self.changes.tracking;
            entry.accessed = rows.accessed(row);
            if self.clock.is_expired(entry.accessed) {
                if self.changes.tracking {
                    // Its file still has it: the next snapshot says that it is gone.
                    self.changes.touch(place);
                } else {
                    self.unlink(place);
                    self.vacated.push(*slot);
                }
                continue;
            }
            let value = V::row(&values, row);
            self.heap += V::heap_bytes(value);
            entry.value = Some(V::own(value));
            self.maps[*slot as usize].len += 1;
        }
        Ok(())
    }

    fn memory_size(&self) -> usize {
        self.heap
            + self.places.allocation_size()
            + self.entries.capacity() * size_of::<Option<Entry<K, V>>>()
            + self.changes.written.memory_size()
            + self.free.capacity() * size_of::<u32>()
            + (self.vacated.capacity() + self.changes.cleared.capacity()) * size_of::<Slot>()
            + self.maps.capacity() * size_of::<Map>()
    }

    fn slack(&self, live: usize) -> usize {
        unused(&self.entries, self.entries.len() - self.free.len()) + unused(&self.maps, live)
    }

    fn image(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        self.measure_lent();
        let mut rows = Rows::<K, V>::new(slots.len().min(out.batch_rows()), self.clock);
        for slot in slots {
            let mut place = self.maps[*slot as usize].first;
            while place != NONE {
                let entry = entry_of(&self.entries, place);
                if entry.value.is_some() {
                    rows.change(*slot, &entry.key, entry.value.as_ref(), entry.accessed, out)?;
                }
                place = entry.next;
            }
        }
        rows.finish(out)
    }

    fn evict(&mut self, slots: &[Slot]) {
        self.measure_lent();
        for slot in slots {
            let map = std::mem::replace(&mut self.maps[*slot as usize], EMPTY);
            let mut place = map.first;
            while place != NONE {
                place = self.forget(place);
            }
        }
    }

    fn mark_saved(&mut self) {
        self.measure_lent();
        self.changes.written.take();
        for slot in std::mem::take(&mut self.changes.cleared) {
            self.maps[slot as usize].is_cleared = false;
            self.vacated.push(slot);
        }
        for map in &mut self.maps {
            map.is_saved = map.len > 0 && self.changes.tracking;
        }
        for place in 0..self.entries.len() as u32 {
            let Some(entry) = &mut self.entries[place as usize] else {
                continue;
            };
            entry.is_saved = self.changes.tracking;
            if entry.value.is_none() {
                let slot = entry.slot;
                self.unlink(place);
                self.vacated.push(slot);
            }
        }
    }

    fn shrink(&mut self, count: usize) {
        self.maps.truncate(count);
        self.maps.shrink_to_fit();
        self.vacated.retain(|slot| (*slot as usize) < count);
        self.changes.cleared.retain(|slot| (*slot as usize) < count);
        self.next_sweep = 0;
        if self.places.is_empty() {
            self.entries = Vec::new();
            self.free = Vec::new();
            self.changes.written = Changed::default();
            self.places.shrink_to(0, |_| 0);
        }
    }

    #[cfg(test)]
    fn assert_memory_is_exact(&self) {
        let held = self.entries.iter().flatten().map(Entry::heap_bytes);
        assert_eq!(self.heap, held.sum::<usize>(), "{}", self.descriptor.name);
        let linked = (0..self.maps.len() as Slot).map(|slot| self.peek_all(slot, true).count());
        let lens = self.maps.iter().map(|map| map.len as usize);
        assert_eq!(linked.sum::<usize>(), lens.sum::<usize>());
        assert_eq!(self.places.len() + self.free.len(), self.entries.len());
    }

    fn add_slot_bytes(&self, bytes: &mut [usize]) {
        for entry in self.entries.iter().flatten() {
            bytes[entry.slot as usize] += size_of::<Option<Entry<K, V>>>() + entry.heap_bytes();
        }
    }
}
