//! What tables hold of keys, collected key by key.
//!
//! ```text
//!   table 0: rows of slots, in the order of the slots --\
//!   table 1: ..                                          -- for each slot: all its rows --> an entry of a run
//! ```

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::Int64Type;
use arrow::row::Rows;

use super::codec::TableCodec;
use super::page::put_row;
use crate::StateError;
use crate::key_index::Slot;

/// The rows that one table has of some slots, in the slots' order.
pub(crate) struct TableImage<'a> {
    codec: &'a TableCodec,
    rows: Option<Rows>,
    owners: Vec<Slot>,
    accessed: Vec<i64>,
    next: usize,
}

impl<'a> TableImage<'a> {
    pub(crate) fn new(codec: &'a TableCodec) -> Self {
        Self {
            rows: codec.empty_rows(),
            codec,
            owners: Vec::new(),
            accessed: Vec::new(),
            next: 0,
        }
    }

    /// More rows; `columns` are the table's sub-key and value columns.
    pub(crate) fn push(&mut self, slots: &[Slot], mut columns: Vec<ArrayRef>) -> Result<(), StateError> {
        if self.codec.has_ttl
            && let Some(accessed) = columns.pop()
        {
            let accessed = accessed.as_primitive::<Int64Type>();
            self.accessed.extend_from_slice(accessed.values());
        }
        if let Some(rows) = &mut self.rows {
            self.codec.append(rows, &columns)?;
        }
        self.owners.extend_from_slice(slots);
        Ok(())
    }

    /// Puts the slot's rows behind the entry's others, by sub-key. Slots come in the order of [`Self::push`].
    pub(crate) fn take(&mut self, slot: Slot, table: usize, entry: &mut Vec<u8>) {
        let first = self.next;
        while self.owners.get(self.next) == Some(&slot) {
            self.next += 1;
        }
        let mine = first..self.next;
        let is_sorted = || mine.clone().is_sorted_by_key(|row| self.row(row));
        if mine.len() > 1 && self.codec.has_sub_keys() && !is_sorted() {
            let mut order: Vec<usize> = mine.collect();
            order.sort_unstable_by_key(|row| self.row(*row));
            order.into_iter().for_each(|row| self.put(row, table, entry));
        } else {
            mine.for_each(|row| self.put(row, table, entry));
        }
    }

    fn row(&self, row: usize) -> &[u8] {
        match &self.rows {
            Some(rows) => rows.row(row).data(),
            None => &[],
        }
    }

    fn put(&self, row: usize, table: usize, entry: &mut Vec<u8>) {
        let accessed = self.accessed.get(row).map(|accessed| accessed.to_le_bytes());
        let accessed = accessed.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        put_row(entry, table, [self.row(row), accessed]);
    }
}
