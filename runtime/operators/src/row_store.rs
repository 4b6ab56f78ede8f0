//! Rows by slot, in columns: what a keyed operator remembers of each key's first record.
//!
//! ```text
//!   append(rows of new keys)  -> chunk | chunk | .. | chunk     chunk i holds slots starts[i] .. starts[i + 1]
//!   gather(slots)             <- interleave of the chunks
//! ```
//!
//! Chunks merge as in a binary counter (a chunk joins its left neighbour once it is half as large), so there are
//! O(log n) of them and each row is copied O(log n) times. A chunk stays below [`MAX_CHUNK_BYTES`]: string offsets are 32 bit.

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::compute::{concat, interleave};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::key_index::Slot;

/// Chunks of this size merge no more.
const MAX_CHUNK_BYTES: usize = 256 << 20;

/// One column of rows by slot.
pub struct ColumnStore {
    data_type: DataType,
    chunks: Vec<ArrayRef>,
    /// The first slot of each chunk.
    starts: Vec<usize>,
    len: usize,
}

impl ColumnStore {
    /// Empty, for values of this type.
    pub fn new(data_type: DataType) -> Self {
        Self {
            data_type,
            chunks: Vec::new(),
            starts: Vec::new(),
            len: 0,
        }
    }

    /// Adds values for the next slots. The array must not share a larger buffer (it would be kept alive).
    pub fn append(&mut self, values: ArrayRef) -> Result<(), ArrowError> {
        if values.is_empty() {
            return Ok(());
        }
        self.starts.push(self.len);
        self.len += values.len();
        self.chunks.push(values);
        while self.should_merge() {
            self.merge_last_two()?;
        }
        Ok(())
    }

    /// The values of these slots.
    pub fn gather(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        if slots.is_empty() {
            return Ok(new_empty_array(&self.data_type));
        }
        let places: Vec<(usize, usize)> = slots.iter().map(|slot| self.place(*slot as usize)).collect();
        let chunks: Vec<&dyn Array> = self.chunks.iter().map(AsRef::as_ref).collect();
        interleave(&chunks, &places)
    }

    /// Bytes held.
    pub fn memory_size(&self) -> usize {
        self.chunks
            .iter()
            .map(|chunk| chunk.get_array_memory_size())
            .sum()
    }

    fn place(&self, slot: usize) -> (usize, usize) {
        let chunk = self.starts.partition_point(|start| *start <= slot) - 1;
        (chunk, slot - self.starts[chunk])
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, StringArray};
    use std::sync::Arc;

    #[test]
    fn every_slot_gives_back_its_row_whatever_the_chunks() {
        let mut store = ColumnStore::new(DataType::Utf8);
        let mut expected = Vec::new();
        for round in 0..200 {
            let values: Vec<String> = (0..round % 7).map(|i| format!("{round}-{i}")).collect();
            store.append(Arc::new(StringArray::from(values.clone()))).unwrap();
            expected.extend(values);
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
        for i in 0..1000_i64 {
            store
                .append(Arc::new(arrow::array::Int64Array::from(vec![i])))
                .unwrap();
        }
        assert!(
            store.memory_size() < 1000 * 8 * 4,
            "{} bytes",
            store.memory_size()
        );
    }
}
