//! Rows by slot, told apart by some of their columns: what a join remembers of a side.
//!
//! ```text
//!   (slot, key columns) --index--> entry: the other columns, how often the row is there, how many partners it has
//!   entries of a slot are a chain, the oldest first
//! ```
//!
//! Without columns that tell rows apart all of them do, and a row that comes twice is one entry that is there twice.
//!
//! State: a table of a list of (columns, `$count`, `$partners`) by key. Invariant: an entry in a chain is there at least once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray, UInt32Array, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use thalweg_state::{ColumnStore, KeyIndex, KeyIndexError, Slot, SlotColumn};
use thalweg_types::key_hash::hash_rows;

use crate::sql::columns::own_items;

/// No entry.
pub(crate) const NONE: u32 = u32::MAX;

/// Rows by slot.
pub(crate) struct RowStore {
    /// Of what is stored: the columns, `$count`, `$partners`.
    fields: Fields,
    /// Columns that tell rows apart, and the others.
    keys: Vec<usize>,
    others: Vec<usize>,
    /// Whether a row takes the place of the one with the same key columns.
    replaces: bool,
    index: KeyIndex,
    values: Vec<ColumnStore>,
    counts: Vec<u32>,
    partners: Vec<u32>,
    /// By entry, while a batch is worked off: its last row.
    last: Vec<u32>,
    /// By entry: its neighbours.
    links: Vec<(u32, u32)>,
    /// By slot: its first and last entry.
    ends: Vec<(u32, u32)>,
    hashes: Vec<u64>,
    new_rows: Vec<u32>,
}

impl RowStore {
    /// For rows of this schema. `keys`: what tells them apart; `None`: all columns.
    pub(crate) fn new(schema: &SchemaRef, keys: Option<&[usize]>) -> Result<Self, ArrowError> {
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let replaces = keys.is_some();
        let keys = keys.map_or_else(|| all.clone(), <[usize]>::to_vec);
        let others: Vec<usize> = all.into_iter().filter(|column| !keys.contains(column)).collect();
        let type_of = |column: &usize| schema.field(*column).data_type().clone();
        let mut types = vec![DataType::UInt32];
        types.extend(keys.iter().map(type_of));
        let columns = schema
            .fields()
            .iter()
            .map(|field| Arc::new(Field::clone(field).with_nullable(true)));
        let numbers = ["$count", "$partners"].map(|name| Arc::new(Field::new(name, DataType::Int64, false)));
        Ok(Self {
            fields: columns.chain(numbers).collect(),
            index: KeyIndex::new(&types).map_err(index_error)?,
            values: others.iter().map(type_of).map(ColumnStore::new).collect(),
            keys,
            others,
            replaces,
            counts: Vec::new(),
            partners: Vec::new(),
            last: Vec::new(),
            links: Vec::new(),
            ends: Vec::new(),
            hashes: Vec::new(),
            new_rows: Vec::new(),
        })
    }

    /// The first entry of a slot, or [`NONE`].
    #[inline]
    pub(crate) fn first(&self, slot: Slot) -> u32 {
        self.ends[slot as usize].0
    }

    /// The entry behind one, or [`NONE`].
    #[inline]
    pub(crate) fn next(&self, entry: u32) -> u32 {
        self.links[entry as usize].1
    }

    /// How often the row is there.
    #[inline]
    pub(crate) fn count(&self, entry: u32) -> u32 {
        self.counts[entry as usize]
    }

    /// How many partners the row has.
    #[inline]
    pub(crate) fn partners(&mut self, entry: u32) -> &mut u32 {
        &mut self.partners[entry as usize]
    }

    /// Adds rows (sign above 0) and takes them back, in order. A row that isn't there can't be taken back; with columns that tell rows
    /// apart a row takes the place of the one before. `partners`: of each added row.
    pub(crate) fn apply(
        &mut self,
        slots: &[Slot],
        columns: &[ArrayRef],
        signs: Option<&[i8]>,
        partners: Option<&[u32]>,
    ) -> Result<(), ArrowError> {
        if slots.is_empty() {
            return Ok(());
        }
        let entries = self.entries(slots, columns)?;
        let replaces = self.replaces;
        for (row, entry) in entries.iter().enumerate() {
            let place = *entry as usize;
            if signs.is_none_or(|signs| signs[row] > 0) {
                self.counts[place] = if replaces { 1 } else { self.counts[place] + 1 };
                if let Some(partners) = partners {
                    self.partners[place] = partners[row];
                }
                self.last[place] = row as u32;
            } else {
                self.counts[place] = self.counts[place].saturating_sub(1);
            }
        }
        self.store(&entries, columns)?;
        self.drop_absent(slots, &entries);
        Ok(())
    }

    /// The entry of each row; new ones are linked behind those of their slot.
    fn entries(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<Vec<u32>, ArrowError> {
        let keys: Vec<ArrayRef> = self
            .keys
            .iter()
            .map(|column| Arc::clone(&columns[*column]))
            .collect();
        match keys.is_empty() {
            true => self.hashes = vec![0; slots.len()],
            false => hash_rows(&keys, &mut self.hashes)
                .map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?,
        }
        let hashes = self
            .hashes
            .iter()
            .zip(slots)
            .map(|(hash, slot)| with_slot(*hash, *slot));
        let hashes = UInt64Array::from_iter_values(hashes);
        let mut parts: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(slots.to_vec()))];
        parts.extend(keys);
        let mut entries = Vec::with_capacity(slots.len());
        self.index
            .slots(&parts, &hashes, &mut entries, &mut self.new_rows)
            .map_err(index_error)?;
        let count = self.index.slot_count();
        self.links.resize(count, (NONE, NONE));
        self.counts.resize(count, 0);
        self.partners.resize(count, 0);
        self.last.resize(count, NONE);
        for values in &mut self.values {
            values.resize(count);
        }
        for row in &self.new_rows {
            let (entry, slot) = (entries[*row as usize], slots[*row as usize] as usize);
            let (first, last) = self.ends[slot];
            self.links[entry as usize] = (last, NONE);
            self.counts[entry as usize] = 0;
            match last {
                NONE => self.ends[slot] = (entry, entry),
                last => {
                    self.links[last as usize].1 = entry;
                    self.ends[slot] = (first, entry);
                }
            }
        }
        Ok(entries)
    }

    /// Stores the other columns of each entry's last row.
    fn store(&mut self, entries: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let (mut slots, mut rows) = (Vec::new(), Vec::new());
        for (entry, row) in entries.iter().zip(0_u32..) {
            let last = &mut self.last[*entry as usize];
            if *last == row {
                slots.push(*entry);
                rows.push(row);
                *last = NONE;
            }
        }
        if self.others.is_empty() {
            return Ok(());
        }
        let rows = UInt32Array::from(rows);
        for (values, column) in self.values.iter_mut().zip(&self.others) {
            values.scatter(&slots, take(&columns[*column], &rows, None)?)?;
        }
        Ok(())
    }

    fn drop_absent(&mut self, slots: &[Slot], entries: &[u32]) {
        for (entry, slot) in entries.iter().zip(slots) {
            if self.counts[*entry as usize] == 0 && self.index.is_live(*entry) {
                let (previous, next) = self.links[*entry as usize];
                let (first, last) = &mut self.ends[*slot as usize];
                match previous {
                    NONE => *first = next,
                    previous => self.links[previous as usize].1 = next,
                }
                match next {
                    NONE => *last = previous,
                    next => self.links[next as usize].0 = previous,
                }
                self.forget(*entry);
            }
        }
    }

    fn forget(&mut self, entry: u32) {
        self.index.remove(entry);
        for values in &mut self.values {
            values.clear(&[entry]);
        }
    }

    /// Whether nothing is kept of the slot.
    pub(crate) fn is_empty(&self, slot: Slot) -> bool {
        self.first(slot) == NONE
    }

    /// All columns of entries.
    pub(crate) fn gather(&self, entries: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        let all: Vec<usize> = (0..self.keys.len() + self.others.len()).collect();
        self.gather_columns(entries, &all)
    }

    /// These columns of entries, in ascending order.
    pub(crate) fn gather_columns(
        &self,
        entries: &[u32],
        wanted: &[usize],
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.keys.len() + self.others.len()];
        if self.keys.iter().any(|key| wanted.contains(key)) {
            let keys = self.index.keys(entries).map_err(index_error)?;
            for (column, key) in self.keys.iter().zip(keys.into_iter().skip(1)) {
                columns[*column] = Some(key);
            }
        }
        for (column, values) in self.others.iter().zip(&self.values) {
            if wanted.contains(column) {
                columns[*column] = Some(values.gather(entries)?);
            }
        }
        Ok(wanted
            .iter()
            .filter_map(|column| columns[*column].take())
            .collect())
    }

    fn entries_of(&self, slots: &[Slot]) -> (Vec<u32>, Vec<usize>) {
        let (mut entries, mut lengths) = (Vec::new(), Vec::with_capacity(slots.len()));
        for slot in slots {
            let before = entries.len();
            let mut entry = self.first(*slot);
            while entry != NONE {
                entries.push(entry);
                entry = self.next(entry);
            }
            lengths.push(entries.len() - before);
        }
        (entries, lengths)
    }

    fn item(&self) -> FieldRef {
        Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), false))
    }
}

/// The hash of a row's key and its slot; not stored.
#[inline]
fn with_slot(hash: u64, slot: Slot) -> u64 {
    (hash ^ u64::from(slot).wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

fn index_error(error: KeyIndexError) -> ArrowError {
    match error {
        KeyIndexError::Encode(error) => error,
        KeyIndexError::Full => ArrowError::ComputeError(error.to_string()),
    }
}

impl SlotColumn for RowStore {
    fn fields(&self) -> Vec<FieldRef> {
        vec![Arc::new(Field::new("rows", DataType::List(self.item()), false))]
    }

    fn resize(&mut self, count: usize) {
        self.ends.resize(count.max(self.ends.len()), (NONE, NONE));
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let (entries, lengths) = self.entries_of(slots);
        let mut columns = Self::gather(self, &entries)?;
        for numbers in [&self.counts, &self.partners] {
            let numbers = entries.iter().map(|entry| i64::from(numbers[*entry as usize]));
            columns.push(Arc::new(Int64Array::from_iter_values(numbers)));
        }
        let rows = StructArray::try_new_with_length(self.fields.clone(), columns, None, entries.len())?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let lists = ListArray::try_new(self.item(), offsets, Arc::new(rows), None)?;
        Ok(vec![Arc::new(lists)])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.clear(slots);
        let wrong = || ArrowError::InvalidArgumentError("stored rows are no list of rows".to_owned());
        let lists = columns
            .first()
            .and_then(|column| column.as_list_opt::<i32>())
            .ok_or_else(wrong)?;
        let (offsets, rows) = own_items(lists);
        let rows = rows.as_struct_opt().ok_or_else(wrong)?;
        let mut owners = vec![0; rows.len()];
        for (slot, range) in slots.iter().zip(offsets.windows(2)) {
            owners[range[0]..range[1]].fill(*slot);
        }
        let (columns, numbers) = rows.columns().split_at(rows.num_columns() - 2);
        let number = |column: usize, row: usize| {
            let numbers = numbers[column].as_primitive_opt::<Int64Type>();
            numbers.map(|numbers| numbers.value(row) as u32).ok_or_else(wrong)
        };
        let entries = self.entries(&owners, columns)?;
        for (row, entry) in entries.iter().enumerate() {
            self.counts[*entry as usize] = number(0, row)?;
            self.partners[*entry as usize] = number(1, row)?;
            self.last[*entry as usize] = row as u32;
        }
        self.store(&entries, columns)
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            let (mut entry, _) = std::mem::replace(&mut self.ends[*slot as usize], (NONE, NONE));
            while entry != NONE {
                let next = self.next(entry);
                self.counts[entry as usize] = 0;
                self.forget(entry);
                entry = next;
            }
        }
    }

    fn memory_size(&self) -> usize {
        let values: usize = self.values.iter().map(ColumnStore::memory_size).sum();
        self.index.memory_size()
            + values
            + (self.counts.capacity() + self.partners.capacity() + self.last.capacity()) * size_of::<u32>()
            + (self.links.capacity() + self.ends.capacity()) * size_of::<(u32, u32)>()
            + self.hashes.capacity() * size_of::<u64>()
            + self.new_rows.capacity() * size_of::<u32>()
    }

    fn cleared_bytes(&self) -> usize {
        self.values.iter().map(ColumnStore::cleared_bytes).sum()
    }

    fn give_back(&mut self) -> Result<(), ArrowError> {
        self.index.give_back();
        self.values.iter_mut().try_for_each(ColumnStore::give_back)
    }
}
