//! A row of columns a key: the state of operators that work on whole batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;

use super::marks::Marks;
use super::ttl::TtlClock;
use super::{ChangeWriter, StateTtl, Table, TableRows, unused};
use crate::key_index::Slot;
use crate::snapshot::{ChangeKind, StateError, TableDescriptor};

/// Columns by slot, as their operator keeps them.
pub trait SlotColumn: Send + 'static {
    /// The columns of a snapshot, in the order of [`Self::gather`].
    fn fields(&self) -> Vec<FieldRef>;
    /// Makes room for slots below `count`.
    fn resize(&mut self, count: usize);
    /// The rows of these slots.
    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError>;
    /// Sets the rows of these slots, of which each comes once.
    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError>;
    /// Forgets the rows of these slots: they are as those of new keys.
    fn clear(&mut self, slots: &[Slot]);
    /// Bytes held.
    fn memory_size(&self) -> usize;
    /// How many of them are of rows that were cleared.
    fn cleared_bytes(&self) -> usize {
        0
    }
    /// Gives those back, if that takes more than forgetting them.
    fn give_back(&mut self) -> Result<(), ArrowError> {
        Ok(())
    }
}

/// Rows of columns by slot. Expired rows are never seen: they are cleared before they are written or read.
pub struct ColumnTable<C: SlotColumn> {
    descriptor: Arc<TableDescriptor>,
    columns: C,
    /// Whether the slot has a row.
    live: Vec<bool>,
    /// How many have.
    rows: usize,
    accessed: Vec<i64>,
    clock: TtlClock,
    marks: Marks,
    vacated: Vec<Slot>,
    next_sweep: usize,
}

impl<C: SlotColumn> ColumnTable<C> {
    pub(crate) fn new(descriptor: Arc<TableDescriptor>, columns: C, ttl: Option<StateTtl>) -> Self {
        Self {
            descriptor,
            columns,
            live: Vec::new(),
            rows: 0,
            accessed: Vec::new(),
            clock: TtlClock::new(ttl),
            marks: Marks::default(),
            vacated: Vec::new(),
            next_sweep: 0,
        }
    }

    /// The columns, of which the rows of these slots are about to be written. A slot may come several times; `new_rows` (cleared
    /// first) holds the first place in `slots` of each that had no row.
    pub fn write(&mut self, slots: &[Slot], new_rows: &mut Vec<u32>) -> &mut C {
        self.drop_expired(slots);
        new_rows.clear();
        for (row, slot) in slots.iter().enumerate() {
            self.marks.touch(*slot);
            if !std::mem::replace(&mut self.live[*slot as usize], true) {
                self.rows += 1;
                new_rows.push(row as u32);
            }
        }
        self.used(slots);
        &mut self.columns
    }

    /// The columns, of which the rows of these slots are about to be read.
    pub fn read(&mut self, slots: &[Slot]) -> &C {
        self.drop_expired(slots);
        if self.clock.updates_on_read() {
            for slot in slots {
                if self.live[*slot as usize] {
                    self.marks.touch(*slot);
                }
            }
            self.used(slots);
        }
        &self.columns
    }

    /// The columns, without being a use of any row; expired ones may be there.
    pub fn peek(&self) -> &C {
        &self.columns
    }

    /// Whether the slot has a row that is not expired.
    pub fn has(&self, slot: Slot) -> bool {
        self.live[slot as usize] && !self.is_expired(slot)
    }

    /// Removes the rows of these slots.
    pub fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            if !std::mem::replace(&mut self.live[*slot as usize], false) {
                continue;
            }
            self.rows -= 1;
            if self.marks.is_saved(*slot) {
                self.marks.touch(*slot);
            }
            self.vacated.push(*slot);
        }
        self.columns.clear(slots);
    }

    fn used(&mut self, slots: &[Slot]) {
        if self.clock.is_on() {
            for slot in slots {
                self.accessed[*slot as usize] = self.clock.now();
            }
        }
    }

    fn is_expired(&self, slot: Slot) -> bool {
        self.clock.is_on() && self.clock.is_expired(self.accessed[slot as usize])
    }

    fn drop_expired(&mut self, slots: &[Slot]) {
        if !self.clock.is_on() {
            return;
        }
        let is_over = |slot: &&Slot| self.live[**slot as usize] && self.is_expired(**slot);
        let expired: Vec<Slot> = slots.iter().filter(is_over).copied().collect();
        if !expired.is_empty() {
            self.clear(&expired);
        }
    }

    /// Writes removals, then rows; both in batches.
    fn write_changes(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let (live, gone): (Vec<Slot>, Vec<Slot>) = slots.iter().partition(|slot| self.has(**slot));
        let gone: Vec<Slot> = gone
            .into_iter()
            .filter(|slot| self.marks.is_saved(*slot))
            .collect();
        for slots in gone.chunks(out.batch_rows()) {
            for slot in slots {
                self.marks.set_saved(*slot, false);
                self.vacated.push(*slot);
                out.note(*slot, ChangeKind::Delete);
            }
            let fields = self.descriptor.value.iter();
            out.flush(
                fields
                    .map(|field| new_null_array(field.data_type(), slots.len()))
                    .collect(),
            )?;
        }
        for slots in live.chunks(out.batch_rows()) {
            for slot in slots {
                self.marks.set_saved(*slot, true);
                out.note(*slot, ChangeKind::Upsert);
            }
            out.flush(self.gather(slots)?)?;
        }
        Ok(())
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, StateError> {
        let mut columns = self.columns.gather(slots).map_err(|source| StateError::Arrow {
            step: "gathering rows",
            source,
        })?;
        if self.clock.is_on() {
            let accessed = slots.iter().map(|slot| self.accessed[*slot as usize]);
            columns.push(Arc::new(Int64Array::from_iter_values(accessed)));
        }
        Ok(columns)
    }
}

impl<C: SlotColumn> Table for ColumnTable<C> {
    fn descriptor(&self) -> &Arc<TableDescriptor> {
        &self.descriptor
    }

    fn resize(&mut self, count: usize) {
        if count > self.live.len() {
            self.live.resize(count, false);
            self.marks.resize(count);
            self.columns.resize(count);
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
        into.append(&mut self.vacated);
    }

    fn is_vacant(&self, slot: Slot) -> bool {
        !self.live[slot as usize] && !self.marks.is_saved(slot)
    }

    fn sweep(&mut self, rows: usize) {
        if !self.clock.is_on() || self.live.is_empty() {
            return;
        }
        let len = self.live.len();
        let start = self.next_sweep;
        let slots: Vec<Slot> = (0..rows.min(len)).map(|i| ((start + i) % len) as Slot).collect();
        self.next_sweep = (start + slots.len()) % len;
        self.drop_expired(&slots);
    }

    fn changes(&mut self, full: bool, out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let dirty = self.marks.take();
        if !full {
            return self.write_changes(&dirty, out);
        }
        for slot in 0..self.live.len() as Slot {
            if self.marks.is_saved(slot) && !self.has(slot) {
                self.marks.set_saved(slot, false);
                self.vacated.push(slot);
            }
        }
        let all: Vec<Slot> = (0..self.live.len() as Slot)
            .filter(|slot| self.has(*slot))
            .collect();
        self.write_changes(&all, out)
    }

    fn changes_of(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let dirty = self.marks.take_of(slots);
        self.write_changes(&dirty, out)
    }

    fn restore(&mut self, rows: &TableRows<'_>) -> Result<(), StateError> {
        let columns: Result<Vec<ArrayRef>, _> = rows.value.iter().map(own_buffers).collect();
        let scattered = columns.and_then(|columns| self.columns.scatter(rows.slots, &columns));
        scattered.map_err(arrow)?;
        let mut expired = Vec::new();
        for (row, slot) in rows.slots.iter().enumerate() {
            self.marks.set_saved(*slot, true);
            self.rows += usize::from(!self.live[*slot as usize]);
            self.live[*slot as usize] = true;
            if self.clock.is_on() {
                self.accessed[*slot as usize] = rows.accessed(row);
            }
            if self.is_expired(*slot) {
                expired.push(*slot);
            }
        }
        if !expired.is_empty() {
            self.clear(&expired);
        }
        Ok(())
    }

    fn memory_size(&self) -> usize {
        self.columns.memory_size()
            + self.live.capacity()
            + self.accessed.capacity() * size_of::<i64>()
            + self.vacated.capacity() * size_of::<Slot>()
            + self.marks.memory_size()
    }

    /// Columns don't know their rows one by one: those that are there have their share.
    fn slack(&self, live: usize) -> usize {
        let room = self.live.len().max(1);
        let columns = self.columns.memory_size();
        let share = columns / room * (room - self.rows.min(room));
        share.max(self.columns.cleared_bytes())
            + unused(&self.live, live)
            + unused(&self.accessed, live)
            + self.marks.slack(live)
    }

    fn image(&mut self, slots: &[Slot], out: &mut ChangeWriter<'_>) -> Result<(), StateError> {
        let live: Vec<Slot> = slots
            .iter()
            .filter(|slot| self.live[**slot as usize])
            .copied()
            .collect();
        for slots in live.chunks(out.batch_rows()) {
            slots.iter().for_each(|slot| out.note(*slot, ChangeKind::Upsert));
            out.flush(self.gather(slots)?)?;
        }
        Ok(())
    }

    fn evict(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.rows -= usize::from(std::mem::replace(&mut self.live[*slot as usize], false));
            self.marks.forget(*slot);
        }
        self.columns.clear(slots);
    }

    fn mark_saved(&mut self) {
        self.marks.take();
        for slot in 0..self.live.len() as Slot {
            let is_there = self.live[slot as usize];
            if !is_there && self.marks.is_saved(slot) {
                self.vacated.push(slot);
            }
            self.marks.set_saved(slot, is_there);
        }
    }

    fn give_back(&mut self) -> Result<(), StateError> {
        self.columns.give_back().map_err(|source| StateError::Arrow {
            step: "giving memory back",
            source,
        })
    }

    /// The columns keep their room for slots.
    fn shrink(&mut self, count: usize) {
        self.live.truncate(count);
        self.live.shrink_to_fit();
        self.accessed.truncate(count);
        self.accessed.shrink_to_fit();
        self.marks.shrink(count);
        self.vacated.retain(|slot| (*slot as usize) < count);
        self.next_sweep = 0;
    }

    /// An average: columns don't know their rows one by one.
    fn add_slot_bytes(&self, bytes: &mut [usize]) {
        let average = self.columns.memory_size() / self.rows.max(1);
        for (sum, live) in bytes.iter_mut().zip(&self.live) {
            *sum += if *live { average } else { 0 };
        }
    }
}

/// A copy that shares no larger buffer.
fn own_buffers(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    concat(&[column.as_ref()])
}

fn arrow(source: ArrowError) -> StateError {
    StateError::Arrow {
        step: "restoring rows",
        source,
    }
}
