//! The rows that OVER keeps of each key: those that wait for the watermark, and those that a frame may still need.
//!
//! State: a table "rows" by key of two lists, "pending" and "history", of rows (`$time` and the input's columns).

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use thalweg_state::{Slot, SlotColumn};

use crate::sql::columns::own_items;

/// A row in arrow's row encoding.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) time: i64,
    pub(crate) row: Arc<[u8]>,
}

/// Bytes of a kept row besides its values.
const ROW_BYTES: usize = 48;

/// Rows by slot.
pub(crate) struct Buffer {
    /// Of what is stored.
    fields: Fields,
    converter: RowConverter,
    /// In the order of arrival.
    pending: Vec<Vec<Kept>>,
    /// In the order of time.
    history: Vec<VecDeque<Kept>>,
    heap: usize,
}

impl Buffer {
    /// For rows of this schema; an error for types that can't be kept.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let types = schema
            .fields()
            .iter()
            .map(|field| SortField::new(field.data_type().clone()));
        let time: FieldRef = Arc::new(Field::new("$time", DataType::Int64, false));
        let columns = schema
            .fields()
            .iter()
            .map(|field| Arc::new(Field::clone(field).with_nullable(true)));
        Ok(Self {
            converter: RowConverter::new(types.collect())?,
            fields: std::iter::once(time).chain(columns).collect(),
            pending: Vec::new(),
            history: Vec::new(),
            heap: 0,
        })
    }

    /// Columns as rows.
    pub(crate) fn encode(
        &self,
        columns: &[ArrayRef],
        times: impl Iterator<Item = i64>,
    ) -> Result<Vec<Kept>, ArrowError> {
        let rows = self.converter.convert_columns(columns)?;
        let rows = rows.iter().zip(times).map(|(row, time)| Kept {
            time,
            row: row.data().into(),
        });
        Ok(rows.collect())
    }

    /// Rows as columns.
    pub(crate) fn decode<'a>(
        &self,
        rows: impl Iterator<Item = &'a Kept>,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let parser = self.converter.parser();
        self.converter
            .convert_rows(rows.map(|kept| parser.parse(&kept.row)))
    }

    /// Appends a row that waits.
    pub(crate) fn push(&mut self, slot: Slot, kept: Kept) {
        self.heap += kept.row.len() + ROW_BYTES;
        self.pending[slot as usize].push(kept);
    }

    /// Takes the rows of a time that wait, in the order of arrival.
    pub(crate) fn take(&mut self, slot: Slot, time: i64) -> Vec<Kept> {
        let pending = std::mem::take(&mut self.pending[slot as usize]);
        let (due, waiting): (Vec<Kept>, Vec<Kept>) = pending.into_iter().partition(|kept| kept.time == time);
        self.heap -= due.iter().map(|kept| kept.row.len() + ROW_BYTES).sum::<usize>();
        self.pending[slot as usize] = waiting;
        due
    }

    /// The rows that were worked off, oldest first.
    pub(crate) fn history(&self, slot: Slot) -> &VecDeque<Kept> {
        &self.history[slot as usize]
    }

    /// Appends a row that was worked off.
    pub(crate) fn remember(&mut self, slot: Slot, kept: Kept) {
        self.heap += kept.row.len() + ROW_BYTES;
        self.history[slot as usize].push_back(kept);
    }

    /// Drops the oldest rows as long as `is_unused` says so, of a row and how many are behind it.
    pub(crate) fn forget(&mut self, slot: Slot, is_unused: impl Fn(&Kept, usize) -> bool) {
        let history = &mut self.history[slot as usize];
        while let Some(oldest) = history.front()
            && is_unused(oldest, history.len() - 1)
        {
            self.heap -= oldest.row.len() + ROW_BYTES;
            history.pop_front();
        }
    }

    /// Whether rows of the slot wait.
    pub(crate) fn is_waiting(&self, slot: Slot) -> bool {
        !self.pending[slot as usize].is_empty()
    }

    /// Whether nothing is kept of the slot.
    pub(crate) fn is_empty(&self, slot: Slot) -> bool {
        self.pending[slot as usize].is_empty() && self.history[slot as usize].is_empty()
    }

    fn list(&self, rows: Vec<&Kept>, lengths: Vec<usize>) -> Result<ArrayRef, ArrowError> {
        let times = Int64Array::from_iter_values(rows.iter().map(|kept| kept.time));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(times)];
        columns.extend(self.decode(rows.into_iter())?);
        let values = StructArray::try_new(self.fields.clone(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(
            self.item(),
            offsets,
            Arc::new(values),
            None,
        )?))
    }

    fn item(&self) -> FieldRef {
        Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), false))
    }

    /// The rows of a stored list, with the place of their slot.
    fn unpack(&self, list: &ArrayRef) -> Result<Vec<(usize, Kept)>, ArrowError> {
        let wrong = || ArrowError::InvalidArgumentError("kept rows are no list of rows".to_owned());
        let list = list.as_list_opt::<i32>().ok_or_else(wrong)?;
        let (offsets, rows) = own_items(list);
        let rows = rows.as_struct_opt().ok_or_else(wrong)?;
        let (times, columns) = rows.columns().split_first().ok_or_else(wrong)?;
        let times = times.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let kept = self.encode(columns, times.values().iter().copied())?;
        let mut owners = vec![0; kept.len()];
        for (place, range) in offsets.windows(2).enumerate() {
            owners[range[0]..range[1]].fill(place);
        }
        Ok(owners.into_iter().zip(kept).collect())
    }
}

impl SlotColumn for Buffer {
    fn fields(&self) -> Vec<FieldRef> {
        let list = |name| Arc::new(Field::new(name, DataType::List(self.item()), false));
        vec![list("pending"), list("history")]
    }

    fn resize(&mut self, count: usize) {
        if count > self.pending.len() {
            self.pending.resize_with(count, Vec::new);
            self.history.resize_with(count, VecDeque::new);
        }
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let pending = || slots.iter().map(|slot| &self.pending[*slot as usize]);
        let history = || slots.iter().map(|slot| &self.history[*slot as usize]);
        Ok(vec![
            self.list(pending().flatten().collect(), pending().map(Vec::len).collect())?,
            self.list(
                history().flatten().collect(),
                history().map(VecDeque::len).collect(),
            )?,
        ])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.clear(slots);
        let [pending, history] = columns else {
            return Err(ArrowError::InvalidArgumentError(
                "kept rows have other columns".to_owned(),
            ));
        };
        for (place, kept) in self.unpack(pending)? {
            self.push(slots[place], kept);
        }
        for (place, kept) in self.unpack(history)? {
            self.remember(slots[place], kept);
        }
        Ok(())
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            let pending = std::mem::take(&mut self.pending[*slot as usize]);
            let history = std::mem::take(&mut self.history[*slot as usize]);
            let all = pending.iter().chain(&history);
            self.heap -= all.map(|kept| kept.row.len() + ROW_BYTES).sum::<usize>();
        }
    }

    fn memory_size(&self) -> usize {
        self.heap
            + self.pending.capacity() * size_of::<Vec<Kept>>()
            + self.history.capacity() * size_of::<VecDeque<Kept>>()
    }
}
