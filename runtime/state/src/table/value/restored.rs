//! Restored values that nobody has used yet: they stay in the columns that they were read in.
//!
//! ```text
//!   restore: a batch's columns --adopt--> segment 0 | segment 1 | ..      nothing is copied or allocated for a row
//!   slot --places--> number of a row -----------> T, of its own: when it is used, and some behind each batch
//!                                                 the last row of a segment frees it
//! ```
//!
//! Invariants: a slot has its value here or among the table's rows, not in both; a segment has its columns as long as it has rows.

use thalweg_types::record::Record;

use crate::key_index::Slot;
use crate::table::make_room;

/// The slot has no value here.
const NONE: u32 = u32::MAX;

/// See the module.
pub(super) struct Restored<T: Record> {
    segments: Vec<Segment<T>>,
    /// By slot: which row it has, counted through all segments. Shorter than the table's rows if the last slots have none.
    places: Vec<u32>,
    /// Rows of all segments, also of those that are gone.
    rows: u32,
    left: usize,
    /// Of the columns.
    bytes: usize,
    /// No slot below it has a value here.
    next: usize,
}

struct Segment<T: Record> {
    /// Number of its first row.
    start: u32,
    left: u32,
    bytes: usize,
    columns: Option<T::Columns>,
}

impl<T: Record> Default for Restored<T> {
    fn default() -> Self {
        Self {
            segments: Vec::new(),
            places: Vec::new(),
            rows: 0,
            left: 0,
            bytes: 0,
            next: 0,
        }
    }
}

impl<T: Record> Restored<T> {
    /// Takes the rows of these slots, which have none here, as far as `is_kept` says so of a row; `bytes` is what keeping the columns
    /// costs. Slots are below `slot_count`.
    pub(super) fn adopt(
        &mut self,
        columns: T::Columns,
        bytes: usize,
        slots: &[Slot],
        slot_count: usize,
        mut is_kept: impl FnMut(usize, Slot) -> bool,
    ) {
        if slot_count > self.places.len() {
            make_room(&mut self.places, slot_count);
            self.places.resize(slot_count, NONE);
        }
        let start = self.rows;
        let mut left = 0;
        for (row, slot) in slots.iter().enumerate() {
            if is_kept(row, *slot) {
                self.places[*slot as usize] = start + row as u32;
                left += 1;
            }
        }
        self.rows += slots.len() as u32;
        if left == 0 {
            return;
        }
        self.next = 0;
        self.left += left as usize;
        self.bytes += bytes;
        self.segments.push(Segment {
            start,
            left,
            bytes,
            columns: Some(columns),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub(super) fn has(&self, slot: Slot) -> bool {
        self.place(slot).is_some()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<T::Ref<'_>> {
        let number = self.place(slot)?;
        let segment = &self.segments[self.segment_of(number)];
        let columns = segment.columns.as_ref()?;
        Some(T::row(columns, (number - segment.start) as usize))
    }

    /// Takes the slot's value out.
    pub(super) fn take(&mut self, slot: Slot) -> Option<T> {
        let value = T::own(self.get(slot)?);
        self.forget(slot);
        Some(value)
    }

    /// Takes the value of the next slot that has one out.
    pub(super) fn take_next(&mut self) -> Option<(Slot, T)> {
        while self.next < self.places.len() {
            let slot = self.next as Slot;
            self.next += 1;
            if let Some(value) = self.take(slot) {
                return Some((slot, value));
            }
        }
        None
    }

    /// Drops the slot's value.
    pub(super) fn forget(&mut self, slot: Slot) {
        let Some(number) = self.place(slot) else {
            return;
        };
        self.places[slot as usize] = NONE;
        self.left -= 1;
        let index = self.segment_of(number);
        let segment = &mut self.segments[index];
        segment.left -= 1;
        if segment.left == 0 {
            segment.columns = None;
            self.bytes -= segment.bytes;
        }
    }

    pub(super) fn memory_size(&self) -> usize {
        self.bytes
            + self.segments.capacity() * size_of::<Segment<T>>()
            + self.places.capacity() * size_of::<u32>()
    }

    #[inline]
    fn place(&self, slot: Slot) -> Option<u32> {
        self.places
            .get(slot as usize)
            .copied()
            .filter(|number| *number != NONE)
    }

    fn segment_of(&self, number: u32) -> usize {
        self.segments.partition_point(|segment| segment.start <= number) - 1
    }
}
