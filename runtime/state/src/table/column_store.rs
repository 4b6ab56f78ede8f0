//! Rows by slot, in columns: what a keyed operator remembers of each key's first record.
//!
//! ```text
//!   scatter(slots, values) -> chunk | chunk | .. | chunk     chunk i holds rows starts[i] .. starts[i + 1]
//!   slot -> row;  gather(slots)  <- interleave of the chunks
//! ```
//!
//! Chunks merge as in a binary counter (a chunk joins its left neighbour once it is half as large), so there are
//! O(log n) of them and each row is copied O(log n) times. A chunk stays below [`MAX_CHUNK_BYTES`]: string offsets are 32 bit.
//! A slot that is written again gets a new row; once half of the rows belong to no slot, all are written anew.

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::{concat, interleave};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::key_index::Slot;

/// Chunks of this size merge no more.
const MAX_CHUNK_BYTES: usize = 256 << 20;
/// Rows that belong to no slot are dropped only if there are more of them.
const MIN_DEAD_ROWS: usize = 1024;
/// The slot has no row.
const NO_ROW: u32 = u32::MAX;

/// One column of rows by slot.
pub struct ColumnStore {
    data_type: DataType,
    chunks: Vec<ArrayRef>,
    /// The first row of each chunk.
    starts: Vec<usize>,
    len: usize,
    /// The row of each slot.
    rows: Vec<u32>,
    live: usize,
}

impl ColumnStore {
    /// Empty, for values of this type.
    pub fn new(data_type: DataType) -> Self {
        Self {
            data_type,
            chunks: Vec::new(),
            starts: Vec::new(),
            len: 0,
            rows: Vec::new(),
            live: 0,
        }
    }

    /// The type of the values.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Makes room for slots below `count`.
    pub fn resize(&mut self, count: usize) {
        if count > self.rows.len() {
            self.rows.resize(count, NO_ROW);
        }
    }

    /// Sets the values of these slots, of which each comes once. The array must not share a larger buffer (it would be kept
    /// alive).
    pub fn scatter(&mut self, slots: &[Slot], values: ArrayRef) -> Result<(), ArrowError> {
        if values.is_empty() {
            return Ok(());
        }
        for (row, slot) in slots.iter().enumerate() {
            let place = &mut self.rows[*slot as usize];
            self.live += usize::from(*place == NO_ROW);
            *place = (self.len + row) as u32;
        }
        self.starts.push(self.len);
        self.len += values.len();
        self.chunks.push(values);
        while self.should_merge() {
            self.merge_last_two()?;
        }
        if self.len > MIN_DEAD_ROWS.max(self.live) * 2 {
            self.drop_dead()?;
        }
        Ok(())
    }

    /// Forgets the values of these slots.
    pub fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            let row = std::mem::replace(&mut self.rows[*slot as usize], NO_ROW);
            self.live -= usize::from(row != NO_ROW);
        }
    }

    /// The values of these slots; null for one that has none.
    pub fn gather(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let has_all = slots.iter().all(|slot| self.rows[*slot as usize] != NO_ROW);
        if self.chunks.is_empty() || slots.is_empty() {
            return Ok(new_null_array(&self.data_type, slots.len()));
        }
        let mut chunks: Vec<&dyn Array> = self.chunks.iter().map(AsRef::as_ref).collect();
        let null;
        if !has_all {
            null = new_null_array(&self.data_type, 1);
            chunks.push(null.as_ref());
        }
        let places: Vec<(usize, usize)> = slots
            .iter()
            .map(|slot| match self.rows[*slot as usize] {
                NO_ROW => (chunks.len() - 1, 0),
                row => self.place(row as usize),
            })
            .collect();
        interleave(&chunks, &places)
    }

    /// Bytes held.
    pub fn memory_size(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| chunk.get_array_memory_size());
        chunks.sum::<usize>() + self.rows.capacity() * size_of::<u32>()
    }

    /// How many of them are of rows that belong to no slot.
    pub fn cleared_bytes(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| chunk.get_array_memory_size());
        chunks.sum::<usize>() / self.len.max(1) * (self.len - self.live)
    }

    /// Gives the room of such rows back.
    pub fn give_back(&mut self) -> Result<(), ArrowError> {
        match self.live < self.len {
            true => self.drop_dead(),
            false => Ok(()),
        }
    }

    fn place(&self, row: usize) -> (usize, usize) {
        let chunk = self.starts.partition_point(|start| *start <= row) - 1;
        (chunk, row - self.starts[chunk])
    }

    fn should_merge(&self) -> bool {
        let [.., left, right] = self.chunks.as_slice() else {
            return false;
        };
        let bytes = left.get_array_memory_size() + right.get_array_memory_size();
        left.len() <= 2 * right.len() && bytes <= MAX_CHUNK_BYTES
    }

    fn merge_last_two(&mut self) -> Result<(), ArrowError> {
        if let (Some(right), Some(left)) = (self.chunks.pop(), self.chunks.pop()) {
            self.starts.pop();
            self.chunks.push(concat(&[left.as_ref(), right.as_ref()])?);
        }
        Ok(())
    }

    /// Writes the rows of all slots anew, chunk by chunk so that none grows too large.
    fn drop_dead(&mut self) -> Result<(), ArrowError> {
        let live: Vec<Slot> = (0..self.rows.len() as Slot)
            .filter(|slot| self.rows[*slot as usize] != NO_ROW)
            .collect();
        let longest = self.chunks.iter().map(|chunk| chunk.len()).max().unwrap_or(1);
        let mut fresh = Self::new(self.data_type.clone());
        fresh.resize(self.rows.len());
        for slots in live.chunks(longest.max(1)) {
            fresh.append_chunk(slots, self.gather(slots)?);
        }
        *self = fresh;
        Ok(())
    }

    fn append_chunk(&mut self, slots: &[Slot], values: ArrayRef) {
        for (row, slot) in slots.iter().enumerate() {
            self.rows[*slot as usize] = (self.len + row) as u32;
        }
        self.live += slots.len();
        self.starts.push(self.len);
        self.len += values.len();
        self.chunks.push(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    #[test]
    fn every_slot_gives_back_its_row_whatever_the_chunks() {
        let mut store = ColumnStore::new(DataType::Utf8);
        let mut expected = Vec::new();
        for round in 0..200 {
            let values: Vec<String> = (0..round % 7).map(|i| format!("{round}-{i}")).collect();
            let slots: Vec<Slot> = (0..values.len()).map(|i| (expected.len() + i) as Slot).collect();
            expected.extend(values.iter().cloned());
            store.resize(expected.len());
            store
                .scatter(&slots, Arc::new(StringArray::from(values)))
                .unwrap();
        }
        assert!(store.chunks.len() <= 12, "{} chunks", store.chunks.len());
        let slots: Vec<Slot> = (0..expected.len() as Slot).rev().collect();
        let gathered = store.gather(&slots).unwrap();
        let gathered: Vec<&str> = gathered.as_string::<i32>().iter().flatten().collect();
        expected.reverse();
        assert_eq!(gathered, expected);
    }

    #[test]
    fn a_merged_column_holds_no_more_than_about_its_rows() {
        let mut store = ColumnStore::new(DataType::Int64);
        store.resize(1000);
        for i in 0..1000_i64 {
            store
                .scatter(&[i as Slot], Arc::new(Int64Array::from(vec![i])))
                .unwrap();
        }
        assert!(
            store.memory_size() < 1000 * 12 * 4,
            "{} bytes",
            store.memory_size()
        );
    }

    #[test]
    fn rows_that_were_written_again_or_cleared_are_given_back() {
        let mut store = ColumnStore::new(DataType::Int64);
        store.resize(100);
        for i in 0..100_000_i64 {
            let slot = (i % 100) as Slot;
            store
                .scatter(&[slot], Arc::new(Int64Array::from(vec![i])))
                .unwrap();
        }
        store.clear(&[7]);
        assert!(store.memory_size() < 100_000, "{} bytes", store.memory_size());
        let gathered = store.gather(&[3, 7, 99]).unwrap();
        let gathered: Vec<Option<i64>> = gathered.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(gathered, [Some(99_903), None, Some(99_999)]);
    }
}
