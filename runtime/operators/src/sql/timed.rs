//! Rows by slot and time, in arrow's row encoding: what waits for a watermark, or for partners of the other input.
//!
//! State: a table of a list of (columns, `$time`, `$mark`, `$order`) by key. A slot's rows are in the order of time, then of arrival.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int8Type, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use thalweg_state::{Slot, SlotColumn};

use super::encoded::RowCodec;

/// Bytes of a row besides its values.
const ROW_BYTES: usize = 64;

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct Timed {
    pub(crate) time: i64,
    /// What its operator notes of it.
    pub(crate) mark: i8,
    /// Which of the slot's rows it is, as they came.
    pub(crate) order: i64,
    pub(crate) row: Arc<[u8]>,
}

impl Timed {
    /// One that comes now.
    pub(crate) fn new(time: i64, mark: i8, row: &[u8]) -> Self {
        Self {
            time,
            mark,
            order: 0,
            row: row.into(),
        }
    }
}

/// Rows by slot.
pub(crate) struct TimedRows {
    fields: Fields,
    pub(crate) codec: RowCodec,
    slots: Vec<Vec<Timed>>,
    /// By slot: the order of the next row.
    next: Vec<i64>,
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
        let mark: FieldRef = Arc::new(Field::new("$mark", DataType::Int8, false));
        let order: FieldRef = Arc::new(Field::new("$order", DataType::Int64, false));
        Ok(Self {
            fields: columns.chain([time, mark, order]).collect(),
            codec: RowCodec::new(schema, &[])?,
            slots: Vec::new(),
            next: Vec::new(),
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

    /// Puts a row that comes now behind those of its time.
    pub(crate) fn insert(&mut self, slot: Slot, row: Timed) {
        let order = self.next_order(slot);
        self.put(slot, Timed { order, ..row });
    }

    fn next_order(&mut self, slot: Slot) -> i64 {
        let next = &mut self.next[slot as usize];
        *next += 1;
        *next
    }

    fn put(&mut self, slot: Slot, row: Timed) {
        self.heap += row.row.len() + ROW_BYTES;
        let rows = &mut self.slots[slot as usize];
        let place = rows.partition_point(|other| other.time <= row.time);
        rows.insert(place, row);
    }

    /// Puts a row in place of the one of its time.
    pub(crate) fn replace(&mut self, slot: Slot, row: Timed) {
        let order = self.next_order(slot);
        let rows = &mut self.slots[slot as usize];
        match rows.binary_search_by_key(&row.time, |other| other.time) {
            Ok(place) => {
                self.heap += row.row.len();
                self.heap -= rows[place].row.len();
                rows[place] = row;
                rows[place].order = order;
            }
            Err(_) => self.put(slot, Timed { order, ..row }),
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

    /// Takes the first rows.
    pub(crate) fn take_first(&mut self, slot: Slot, count: usize) -> Vec<Timed> {
        let taken: Vec<Timed> = self.slots[slot as usize].drain(..count).collect();
        self.heap -= taken.iter().map(|row| row.row.len() + ROW_BYTES).sum::<usize>();
        taken
    }

    /// Takes the rows up to a time.
    pub(crate) fn take_until(&mut self, slot: Slot, time: i64) -> Vec<Timed> {
        let count = self.rows(slot).partition_point(|row| row.time <= time);
        self.take_first(slot, count)
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
        let count = count.max(self.slots.len());
        self.slots.resize_with(count, Vec::new);
        self.next.resize(count, 0);
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let rows = || slots.iter().flat_map(|slot| self.rows(*slot));
        let mut columns = self.codec.decode(rows().map(|row| &row.row))?;
        columns.push(Arc::new(Int64Array::from_iter_values(rows().map(|row| row.time))));
        columns.push(Arc::new(Int8Array::from_iter_values(rows().map(|row| row.mark))));
        columns.push(Arc::new(Int64Array::from_iter_values(
            rows().map(|row| row.order),
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
        let (columns, notes) = rows.columns().split_at(rows.num_columns() - 3);
        let times = notes[0].as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let marks = notes[1].as_primitive_opt::<Int8Type>().ok_or_else(wrong)?;
        let orders = notes[2].as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let encoded = self.codec.encode(columns)?;
        for (slot, range) in slots.iter().zip(lists.value_offsets().windows(2)) {
            for row in range[0] as usize..range[1] as usize {
                let order = orders.value(row);
                let next = &mut self.next[*slot as usize];
                *next = order.max(*next);
                let timed = Timed::new(times.value(row), marks.value(row), encoded.row(row));
                self.put(*slot, Timed { order, ..timed });
            }
        }
        Ok(())
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.take_until(*slot, i64::MAX);
            self.slots[*slot as usize] = Vec::new();
            self.next[*slot as usize] = 0;
        }
    }

    fn memory_size(&self) -> usize {
        self.heap + self.slots.capacity() * size_of::<Vec<Timed>>() + self.next.capacity() * size_of::<i64>()
    }
}
