//! Functions of OVER that look at a row's place: RANK, DENSE_RANK, LAG. Rows come in order and are never taken back.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use thalweg_state::Slot;

use super::accumulator::{Accumulator, Rows, argument, for_each_row, primitive};

/// RANK and DENSE_RANK by a time, the argument: rows of the same time have the same rank.
pub(crate) struct TimeRank {
    dense: bool,
    data_type: DataType,
    /// By slot: how many rows there were, the rank of the last one, its time.
    places: Vec<(i64, i64, i64)>,
}

impl TimeRank {
    pub(crate) fn new(dense: bool, data_type: DataType) -> Self {
        Self {
            dense,
            data_type,
            places: Vec::new(),
        }
    }
}

impl Accumulator for TimeRank {
    fn fields(&self) -> Vec<Field> {
        let field = |name| Field::new(name, DataType::Int64, false);
        vec![field("rows"), field("rank"), field("time")]
    }

    fn resize(&mut self, count: usize) {
        self.places.resize(count.max(self.places.len()), (0, 0, 0));
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let times = cast(argument(args, 0)?, &DataType::Int64)?;
        let times = primitive::<Int64Type>(&times)?;
        for_each_row(rows, times.nulls(), |row, slot, _| {
            let (rows, rank, last) = &mut self.places[slot];
            *rows += 1;
            let time = times.value(row);
            if *rows == 1 || time != *last {
                *rank = if self.dense { *rank + 1 } else { *rows };
                *last = time;
            }
        });
        Ok(())
    }

    /// Only into cleared slots: places of rows can't be added.
    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let [rows, ranks, times] =
            [0, 1, 2].map(|place| argument(parts, place).and_then(primitive::<Int64Type>));
        let (rows, ranks, times) = (rows?, ranks?, times?);
        for (row, slot) in slots.iter().enumerate() {
            self.places[*slot as usize] = (rows.value(row), ranks.value(row), times.value(row));
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let ranks = Int64Array::from_iter_values(slots.iter().map(|slot| self.places[*slot as usize].1));
        cast(&ranks, &self.data_type)
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |part: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
            let values = slots.iter().map(|slot| part(&self.places[*slot as usize]));
            Arc::new(Int64Array::from_iter_values(values))
        };
        Ok(vec![
            column(|place| place.0),
            column(|place| place.1),
            column(|place| place.2),
        ])
    }

    fn clear(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.places[*slot as usize] = (0, 0, 0));
    }

    fn memory_size(&self) -> usize {
        self.places.capacity() * size_of::<(i64, i64, i64)>()
    }
}

/// Bytes of a kept value besides its own.
const VALUE_BYTES: usize = 24;

/// LAG(value, offset, default): the value so many rows before, nulls included.
pub(crate) struct Lag {
    data_type: DataType,
    converter: RowConverter,
    /// By slot: the values of the last rows, one more than the offset.
    values: Vec<VecDeque<Box<[u8]>>>,
    /// Of the last row of each slot; not stored, because a result follows its row.
    defaults: Vec<Option<Box<[u8]>>>,
    offsets: Vec<usize>,
    heap: usize,
}

impl Lag {
    pub(crate) fn new(data_type: DataType) -> Result<Self, ArrowError> {
        Ok(Self {
            converter: RowConverter::new(vec![SortField::new(data_type.clone())])?,
            data_type,
            values: Vec::new(),
            defaults: Vec::new(),
            offsets: Vec::new(),
            heap: 0,
        })
    }

    fn push(&mut self, slot: usize, value: &[u8], offset: usize) {
        let values = &mut self.values[slot];
        values.push_back(value.into());
        self.heap += value.len() + VALUE_BYTES;
        while values.len() > offset.saturating_add(1) {
            let dropped = values.pop_front();
            self.heap -= dropped.map_or(0, |value| value.len() + VALUE_BYTES);
        }
    }

    fn decode<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef, ArrowError> {
        let parser = self.converter.parser();
        let mut columns = self
            .converter
            .convert_rows(values.map(|value| parser.parse(value)))?;
        columns
            .pop()
            .ok_or_else(|| ArrowError::InvalidArgumentError("a value has no column".to_owned()))
    }

    fn item(&self) -> Arc<Field> {
        Arc::new(Field::new("item", self.data_type.clone(), true))
    }
}

impl Accumulator for Lag {
    fn fields(&self) -> Vec<Field> {
        vec![Field::new("values", DataType::List(self.item()), false)]
    }

    fn resize(&mut self, count: usize) {
        if count > self.values.len() {
            self.values.resize_with(count, VecDeque::new);
            self.defaults.resize(count, None);
            self.offsets.resize(count, 1);
        }
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let encode = |column: &ArrayRef| self.converter.convert_columns(std::slice::from_ref(column));
        let values = encode(argument(args, 0)?)?;
        let offsets = args
            .get(1)
            .map(|offsets| cast(offsets, &DataType::Int64))
            .transpose()?;
        let offsets = offsets.as_ref().map(primitive::<Int64Type>).transpose()?;
        let defaults = args
            .get(2)
            .map(|defaults| cast(defaults, &self.data_type))
            .transpose()?;
        let defaults = defaults.as_ref().map(encode).transpose()?;
        for_each_row(rows, None, |row, slot, _| {
            let offset = offsets.map_or(1, |offsets| usize::try_from(offsets.value(row)).unwrap_or(0));
            self.push(slot, values.row(row).data(), offset);
            self.offsets[slot] = offset;
            self.defaults[slot] = defaults.as_ref().map(|defaults| defaults.row(row).data().into());
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let lists = argument(parts, 0)?.as_list::<i32>();
        let encoded = self
            .converter
            .convert_columns(std::slice::from_ref(lists.values()))?;
        for (slot, range) in slots.iter().zip(lists.value_offsets().windows(2)) {
            for place in range[0] as usize..range[1] as usize {
                self.push(*slot as usize, encoded.row(place).data(), usize::MAX);
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let value = |slot: &Slot| {
            let slot = *slot as usize;
            match self.values[slot].len() > self.offsets[slot] {
                true => self.values[slot].front(),
                false => self.defaults[slot].as_ref(),
            }
        };
        let found: Vec<Option<&Box<[u8]>>> = slots.iter().map(value).collect();
        let values = self.decode(found.iter().flatten().map(|value| &***value))?;
        let mut next = 0;
        let places = found.iter().map(|found| {
            found.map(|_| {
                next += 1;
                next - 1
            })
        });
        take(&values, &places.collect::<UInt32Array>(), None)
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let kept = || slots.iter().map(|slot| &self.values[*slot as usize]);
        let offsets = OffsetBuffer::from_lengths(kept().map(VecDeque::len));
        let values = self.decode(kept().flatten().map(|value| &**value))?;
        Ok(vec![Arc::new(ListArray::try_new(
            self.item(),
            offsets,
            values,
            None,
        )?)])
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            let values = std::mem::take(&mut self.values[*slot as usize]);
            self.heap -= values
                .iter()
                .map(|value| value.len() + VALUE_BYTES)
                .sum::<usize>();
            self.defaults[*slot as usize] = None;
        }
    }

    fn memory_size(&self) -> usize {
        self.heap
            + self.values.capacity() * size_of::<VecDeque<Box<[u8]>>>()
            + self.defaults.capacity() * size_of::<Option<Box<[u8]>>>()
            + self.offsets.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(slots: &[Slot]) -> Rows<'_> {
        Rows { slots, signs: None }
    }

    fn ints(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn result(accumulator: &dyn Accumulator, slot: Slot) -> Option<i64> {
        let result = accumulator.evaluate(&[slot]).unwrap();
        result.as_primitive::<Int64Type>().iter().next().unwrap()
    }

    #[test]
    fn rows_of_a_time_have_one_rank() {
        for (dense, expected) in [(false, [1, 1, 3]), (true, [1, 1, 2])] {
            let mut rank = TimeRank::new(dense, DataType::Int64);
            rank.resize(1);
            let ranks = [7, 7, 9].map(|time| {
                rank.update(added(&[0]), &[ints(&[Some(time)])]).unwrap();
                result(&rank, 0).unwrap()
            });
            assert_eq!(ranks, expected);
        }
    }

    #[test]
    fn the_value_before_is_the_default_until_there_is_one() {
        let mut lag = Lag::new(DataType::Int64).unwrap();
        lag.resize(1);
        let mut results = Vec::new();
        for value in [Some(1), None, Some(3), Some(4)] {
            let args = [ints(&[value]), ints(&[Some(2)]), ints(&[Some(-1)])];
            lag.update(added(&[0]), &args).unwrap();
            results.push(result(&lag, 0));
            let parts = lag.gather(&[0]).unwrap();
            lag.clear(&[0]);
            assert_eq!(lag.heap, 0);
            lag.merge(&[0], &parts).unwrap();
        }
        assert_eq!(results, [Some(-1), Some(-1), Some(1), None]);
        assert_eq!(lag.values[0].len(), 3);
    }
}
