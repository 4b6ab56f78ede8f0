//! Rows by slot and time, in arrow's row encoding: what waits for a watermark, or for partners of the other input.
//!
//! State: a table of a list of (columns, `$time`, `$mark`) by key. A slot's rows are in the order of time, then of arrival.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use thalweg_state::{Slot, SlotColumn};

use super::encoded::RowCodec;

/// Bytes of a row besides its values.
const ROW_BYTES: usize = 56;

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct Timed {
    pub(crate) time: i64,
    /// What its operator notes of it.
    pub(crate) mark: bool,
    pub(crate) row: Arc<[u8]>,
}

/// Rows by slot.
pub(crate) struct TimedRows {
    fields: Fields,
    pub(crate) codec: RowCodec,
    slots: Vec<Vec<Timed>>,
    heap: usize,
}

impl TimedRows {
    /// For rows of this schema.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| Arc::new(Field::clone(field).with_nullable(true)));
        let time: FieldRef = Arc::new(Field::new("$time", DataType::Int64, false));
        let mark: FieldRef = Arc::new(Field::new("$mark", DataType::Boolean, false));
        Ok(Self {
            fields: columns.chain([time, mark]).collect(),
            codec: RowCodec::new(schema, &[])?,
            slots: Vec::new(),
            heap: 0,
        })
    }

    /// A slot's rows, the earliest first.
    pub(crate) fn rows(&self, slot: Slot) -> &[Timed] {
        &self.slots[slot as usize]
    }

    /// The same, to note something of them.
    pub(crate) fn rows_mut(&mut self, slot: Slot) -> &mut [Timed] {
        &mut self.slots[slot as usize]
    }

    /// Puts a row behind those of its time.
    pub(crate) fn insert(&mut self, slot: Slot, row: Timed) {
        self.heap += row.row.len() + ROW_BYTES;
        let rows = &mut self.slots[slot as usize];
        let place = rows.partition_point(|other| other.time <= row.time);
        rows.insert(place, row);
    }

    /// Puts a row in place of the one of its time.
    pub(crate) fn replace(&mut self, slot: Slot, row: Timed) {
        let rows = &mut self.slots[slot as usize];
        match rows.binary_search_by_key(&row.time, |other| other.time) {
            Ok(place) => {
                self.heap += row.row.len();
                self.heap -= rows[place].row.len();
                rows[place] = row;
            }
            Err(_) => self.insert(slot, row),
        }
    }

    /// The last row up to a time.
    pub(crate) fn last_until(&self, slot: Slot, time: i64) -> Option<&Timed> {
        let rows = self.rows(slot);
        rows[..rows.partition_point(|row| row.time <= time)].last()
    }

    /// Drops the rows before the last one up to a time.
    pub(crate) fn drop_before_last(&mut self, slot: Slot, time: i64) {
        if let Some(last) = self.last_until(slot, time).map(|row| row.time) {
            self.take_until(slot, last.saturating_sub(1));
        }
    }

    /// Takes the rows up to a time.
    pub(crate) fn take_until(&mut self, slot: Slot, time: i64) -> Vec<Timed> {
        let rows = &mut self.slots[slot as usize];
        let count = rows.partition_point(|row| row.time <= time);
        let taken: Vec<Timed> = rows.drain(..count).collect();
        self.heap -= taken.iter().map(|row| row.row.len() + ROW_BYTES).sum::<usize>();
        taken
    }

    fn item(&self) -> FieldRef {
        Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), false))
    }
}

impl SlotColumn for TimedRows {
    fn fields(&self) -> Vec<FieldRef> {
        vec![Arc::new(Field::new("rows", DataType::List(self.item()), false))]
    }

    fn resize(&mut self, count: usize) {
        self.slots.resize_with(count.max(self.slots.len()), Vec::new);
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let rows = || slots.iter().flat_map(|slot| self.rows(*slot));
        let mut columns = self.codec.decode(rows().map(|row| &row.row))?;
        columns.push(Arc::new(Int64Array::from_iter_values(rows().map(|row| row.time))));
        columns.push(Arc::new(BooleanArray::from(
            rows().map(|row| row.mark).collect::<Vec<_>>(),
        )));
        let lengths: Vec<usize> = slots.iter().map(|slot| self.rows(*slot).len()).collect();
        let values =
            StructArray::try_new_with_length(self.fields.clone(), columns, None, lengths.iter().sum())?;
        let list = ListArray::try_new(
            self.item(),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(values),
            None,
        )?;
        Ok(vec![Arc::new(list)])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.clear(slots);
        let wrong = || ArrowError::InvalidArgumentError("stored rows are no list of timed rows".to_owned());
        let lists = columns
            .first()
            .and_then(|column| column.as_list_opt::<i32>())
            .ok_or_else(wrong)?;
        let rows = lists.values().as_struct_opt().ok_or_else(wrong)?;
        let (columns, notes) = rows.columns().split_at(rows.num_columns() - 2);
        let times = notes[0].as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let marks = notes[1].as_boolean_opt().ok_or_else(wrong)?;
        let encoded = self.codec.encode(columns)?;
        for (slot, range) in slots.iter().zip(lists.value_offsets().windows(2)) {
            for row in range[0] as usize..range[1] as usize {
                let timed = Timed {
                    time: times.value(row),
                    mark: marks.value(row),
                    row: encoded.row(row).into(),
                };
                self.insert(*slot, timed);
            }
        }
        Ok(())
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.take_until(*slot, i64::MAX);
            self.slots[*slot as usize] = Vec::new();
        }
    }

    fn memory_size(&self) -> usize {
        self.heap + self.slots.capacity() * size_of::<Vec<Timed>>()
    }
}
