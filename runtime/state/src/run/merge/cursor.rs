//! One run's place in a merge: its current block, and how its rows compare with others'.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, Int8Array, MutableArrayData, make_array, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::Rows;

use super::merging;
use crate::evolution::Adapter;
use crate::file::reader::BlockReader;
use crate::table::ACCESSED_COLUMN;
use crate::{ChangeKind, StateError, TableDescriptor};

/// Neighbouring rows from which on it pays to copy them together.
const LONG_RANGE: usize = 4;

pub(super) struct Cursor {
    pub(super) file: String,
    pub(super) blocks: BlockReader,
    pub(super) adapted: Option<Adapted>,
    /// Place of the run in its chain; larger = newer.
    pub(super) age: usize,
    pub(super) block: Option<Block>,
    pub(super) row: usize,
    pub(super) end: usize,
    /// Where the block is in [`Pending::blocks`], once a row of it is there.
    pub(super) pooled: Option<usize>,
}

/// A decoded block.
pub(super) struct Block {
    /// Key, sub-key and value columns.
    pub(super) columns: Vec<ArrayRef>,
    pub(super) hashes: Vec<u64>,
    pub(super) changes: Option<Int8Array>,
    /// Empty where there is one run: nothing is compared then.
    pub(super) groups: Vec<u32>,
    /// Absent there.
    pub(super) keys: Option<(Rows, Option<Rows>)>,
}

/// Rows of the batch being made.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) blocks: Vec<Vec<ArrayRef>>,
    /// Which of these blocks, and which of its rows.
    ranges: Vec<(usize, Range<usize>)>,
    pub(super) hashes: Vec<u64>,
    pub(super) changes: Vec<i8>,
    pub(super) any_delete: bool,
}

impl Cursor {
    /// By what they would give next; and whether that is the same row. Equal rows: the newer first.
    pub(super) fn compare(&self, other: &Self) -> (Ordering, bool) {
        let (Some(left), Some(right)) = (&self.block, &other.block) else {
            return (self.block.is_none().cmp(&other.block.is_none()), false);
        };
        let by_row = left.compare(self.row, right, other.row);
        (
            by_row.then_with(|| other.age.cmp(&self.age)),
            by_row == Ordering::Equal,
        )
    }

    /// Where the rows end that come before the other's next, `until` at most.
    pub(super) fn end_before(&self, other: &Self, until: usize) -> usize {
        let (Some(block), Some(other_block)) = (&self.block, &other.block) else {
            return self.row;
        };
        let is_before = |row| block.compare(row, other_block, other.row) == Ordering::Less;
        // All below `low` are before it.
        let (mut low, mut step) = (self.row, 1);
        while low + step <= until && is_before(low + step - 1) {
            low += step;
            step *= 2;
        }
        let mut high = (low + step - 1).min(until);
        while low < high {
            let middle = (low + high) / 2;
            match is_before(middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    pub(super) fn change(&self) -> i8 {
        self.block.as_ref().map_or(0, |block| block.change(self.row))
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        let (keys, _) = self.block.as_ref()?.keys.as_ref()?;
        Some(keys.row(self.row).data())
    }

    pub(super) fn group(&self) -> u32 {
        self.block.as_ref().map_or(0, |block| block.groups[self.row])
    }

    pub(super) fn deleted_key(&self) -> Option<(u32, Box<[u8]>, usize)> {
        Some((self.group(), self.key()?.into(), self.age))
    }
}

impl Block {
    pub(super) fn change(&self, row: usize) -> i8 {
        let changes = self.changes.as_ref();
        changes.map_or(ChangeKind::Upsert as i8, |changes| changes.value(row))
    }

    /// By key group, key, DeleteKey before others, sub-key: the order of encoding.
    pub(super) fn compare(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        let (Some((keys, sub_keys)), Some((other_keys, other_sub_keys))) = (&self.keys, &other.keys) else {
            return Ordering::Equal;
        };
        let by_key = self.groups[row]
            .cmp(&other.groups[other_row])
            .then_with(|| keys.row(row).cmp(&other_keys.row(other_row)));
        if by_key != Ordering::Equal {
            return by_key;
        }
        let delete_key = self.change(row) == ChangeKind::DeleteKey as i8;
        let other_delete_key = other.change(other_row) == ChangeKind::DeleteKey as i8;
        match (delete_key, other_delete_key, sub_keys, other_sub_keys) {
            (true, true, ..) => Ordering::Equal,
            (false, false, Some(rows), Some(other_rows)) => rows.row(row).cmp(&other_rows.row(other_row)),
            _ => other_delete_key.cmp(&delete_key),
        }
    }
}

impl Pending {
    /// Adds these rows, which are all of this change.
    pub(super) fn push(&mut self, cursor: &mut Cursor, rows: Range<usize>, change: i8) {
        let Some(block) = &cursor.block else { return };
        let place = *cursor.pooled.get_or_insert_with(|| {
            self.blocks.push(block.columns.clone());
            self.blocks.len() - 1
        });
        self.hashes.extend_from_slice(&block.hashes[rows.clone()]);
        self.changes.resize(self.hashes.len(), change);
        self.any_delete |= change != ChangeKind::Upsert as i8;
        match self.ranges.last_mut() {
            Some((last, before)) if *last == place && before.end == rows.start => before.end = rows.end,
            _ => self.ranges.push((place, rows)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// One column of the rows.
    pub(super) fn column(&self, column: usize) -> Result<ArrayRef, ArrowError> {
        if let [(block, rows)] = self.ranges.as_slice() {
            return Ok(self.blocks[*block][column].slice(rows.start, rows.len()));
        }
        let is_dictionary = matches!(self.blocks[0][column].data_type(), DataType::Dictionary(..));
        if is_dictionary || self.len() < LONG_RANGE * self.ranges.len() {
            let sources: Vec<&dyn Array> = self.blocks.iter().map(|block| &*block[column]).collect();
            let ranges = self.ranges.iter();
            let rows = ranges.flat_map(|(block, rows)| rows.clone().map(move |row| (*block, row)));
            return interleave(&sources, &rows.collect::<Vec<_>>());
        }
        let sources: Vec<ArrayData> = self.blocks.iter().map(|block| block[column].to_data()).collect();
        let mut out = MutableArrayData::new(sources.iter().collect(), false, self.len());
        for (block, rows) in &self.ranges {
            out.try_extend(*block, rows.start, rows.end)?;
        }
        Ok(make_array(out.freeze()))
    }
}

/// Brings the columns of a run that an older version of the program wrote to those of the newest.
pub(super) struct Adapted {
    adapter: Adapter,
    /// Key and sub-key columns.
    identity: usize,
    /// Where the column of time-to-live is among the value columns wanted.
    accessed: Option<(usize, DataType)>,
}

impl Adapted {
    /// None if there is nothing to do.
    pub(super) fn new(
        stored: &TableDescriptor,
        wanted: &TableDescriptor,
    ) -> Result<Option<Self>, StateError> {
        if stored.value == wanted.value {
            return Ok(None);
        }
        let accessed = wanted
            .value
            .iter()
            .position(|field| field.name() == ACCESSED_COLUMN);
        Ok(Some(Self {
            adapter: Adapter::new(stored, wanted)?,
            identity: wanted.key.len() + wanted.sub_key.len(),
            accessed: accessed.map(|place| (place, wanted.value[place].data_type().clone())),
        }))
    }

    pub(super) fn adapt(&self, mut columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, StateError> {
        let rows = columns.first().map_or(0, |column| column.len());
        let stored = columns.split_off(self.identity);
        let mut values = self.adapter.columns(&stored, rows).map_err(merging)?;
        if let Some((place, data_type)) = &self.accessed {
            let column = match self.adapter.accessed(&stored) {
                Some(column) => Arc::clone(column),
                None => new_null_array(data_type, rows),
            };
            values.insert(*place, column);
        }
        columns.append(&mut values);
        Ok(columns)
    }
}
