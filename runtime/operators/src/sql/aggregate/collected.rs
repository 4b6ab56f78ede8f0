//! Functions that keep all values of a key: MIN and MAX, FIRST_VALUE and LAST_VALUE of rows that may be taken back; LISTAGG, COLLECT,
//! ARRAY_AGG, SINGLE_VALUE.
//!
//! ```text
//!   Multiset:  slot -> value -> how often      in the order of values       MIN, MAX, COLLECT
//!   Sequence:  slot -> value, value, ..        in the order of arrival      the others
//! ```
//!
//! Values are kept in arrow's row encoding, which compares as the values do, and stored as columns of maps and lists. A value
//! that is taken back before it was added is remembered as such in a multiset; a sequence takes its first equal one out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
    UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use thalweg_state::Slot;

use super::accumulator::{Accumulator, Rows, argument, for_each_row};

type Encoded = Box<[u8]>;

/// Bytes of an entry besides its value.
const ENTRY_BYTES: usize = 48;

/// Values as bytes and back.
struct Codec {
    data_type: DataType,
    converter: RowConverter,
}

impl Codec {
    fn new(data_type: DataType) -> Result<Self, ArrowError> {
        Ok(Self {
            converter: RowConverter::new(vec![SortField::new(data_type.clone())])?,
            data_type,
        })
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
}

/// What a multiset is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MultisetResult {
    Min,
    Max,
    /// The multiset itself.
    Collect,
}

/// Values by slot and how often each is there.
pub(crate) struct Multiset {
    codec: Codec,
    result: MultisetResult,
    data_type: DataType,
    sets: Vec<BTreeMap<Encoded, i64>>,
    heap: usize,
}

impl Multiset {
    pub(crate) fn new(
        value_type: DataType,
        data_type: DataType,
        result: MultisetResult,
    ) -> Result<Self, ArrowError> {
        Ok(Self {
            codec: Codec::new(value_type)?,
            result,
            data_type,
            sets: Vec::new(),
            heap: 0,
        })
    }

    fn add(&mut self, slot: usize, value: &[u8], number: i64) {
        let set = &mut self.sets[slot];
        match set.get_mut(value) {
            Some(count) => {
                *count += number;
                if *count == 0 {
                    set.remove(value);
                    self.heap -= value.len() + ENTRY_BYTES;
                }
            }
            None if number != 0 => {
                set.insert(value.into(), number);
                self.heap += value.len() + ENTRY_BYTES;
            }
            None => {}
        }
    }

    fn best(&self, slot: Slot) -> Option<&[u8]> {
        let mut there = self.sets[slot as usize].iter().filter(|(_, count)| **count > 0);
        let best = match self.result {
            MultisetResult::Min => there.next(),
            _ => there.next_back(),
        };
        best.map(|(value, _)| &**value)
    }

    /// Maps from value to count, of the entries that `keep` says.
    fn maps(
        &self,
        slots: &[Slot],
        entries: &Field,
        keep: impl Fn(i64) -> bool,
        counts: impl FnOnce(Vec<i64>) -> ArrayRef,
    ) -> Result<ArrayRef, ArrowError> {
        let sets = || slots.iter().map(|slot| &self.sets[*slot as usize]);
        let kept = |set: &BTreeMap<Encoded, i64>| set.values().filter(|count| keep(**count)).count();
        let offsets = OffsetBuffer::from_lengths(sets().map(kept));
        let all = || sets().flatten().filter(|(_, count)| keep(**count));
        let keys = self.codec.decode(all().map(|(value, _)| &**value))?;
        let counts = counts(all().map(|(_, count)| *count).collect());
        let DataType::Struct(fields) = entries.data_type() else {
            return Err(ArrowError::InvalidArgumentError(
                "a map without entries".to_owned(),
            ));
        };
        let values = StructArray::try_new(fields.clone(), vec![keys, counts], None)?;
        Ok(Arc::new(MapArray::try_new(
            Arc::new(entries.clone()),
            offsets,
            values,
            None,
            false,
        )?))
    }

    fn entries(&self) -> Field {
        let fields = Fields::from(vec![
            Field::new("key", self.codec.data_type.clone(), false),
            Field::new("value", DataType::Int64, false),
        ]);
        Field::new("entries", DataType::Struct(fields), false)
    }
}

impl Accumulator for Multiset {
    fn fields(&self) -> Vec<Field> {
        let data_type = DataType::Map(Arc::new(self.entries()), false);
        vec![Field::new("values", data_type, false)]
    }

    fn resize(&mut self, count: usize) {
        if count > self.sets.len() {
            self.sets.resize_with(count, BTreeMap::new);
        }
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let values = argument(args, 0)?;
        let encoded = self
            .codec
            .converter
            .convert_columns(std::slice::from_ref(values))?;
        let nulls = values.logical_nulls();
        for_each_row(rows, nulls.as_ref(), |row, slot, sign| {
            self.add(slot, encoded.row(row).data(), i64::from(sign));
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let maps = argument(parts, 0)?.as_map();
        let encoded = self
            .codec
            .converter
            .convert_columns(std::slice::from_ref(maps.keys()))?;
        let counts = maps.values().as_primitive::<Int64Type>();
        for (slot, range) in slots.iter().zip(maps.value_offsets().windows(2)) {
            for entry in range[0] as usize..range[1] as usize {
                self.add(*slot as usize, encoded.row(entry).data(), counts.value(entry));
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        if self.result == MultisetResult::Collect {
            let DataType::Map(entries, _) = &self.data_type else {
                return Err(ArrowError::InvalidArgumentError(format!(
                    "COLLECT gives no {}",
                    self.data_type
                )));
            };
            let counts = |counts: Vec<i64>| -> ArrayRef {
                Arc::new(Int32Array::from_iter_values(
                    counts
                        .into_iter()
                        .map(|count| i32::try_from(count).unwrap_or(i32::MAX)),
                ))
            };
            return self.maps(slots, entries, |count| count > 0, counts);
        }
        let found: Vec<Option<&[u8]>> = slots.iter().map(|slot| self.best(*slot)).collect();
        let values = self.codec.decode(found.iter().flatten().copied())?;
        spread(&values, found.iter().map(Option::is_some))
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let counts = |counts: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(counts)) };
        Ok(vec![self.maps(slots, &self.entries(), |_| true, counts)?])
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            let set = std::mem::take(&mut self.sets[*slot as usize]);
            self.heap -= set.keys().map(|value| value.len() + ENTRY_BYTES).sum::<usize>();
        }
    }

    fn memory_size(&self) -> usize {
        self.heap + self.sets.capacity() * size_of::<BTreeMap<Encoded, i64>>()
    }
}

/// Values for those rows that have one, and nulls for the others.
fn spread(values: &ArrayRef, has_value: impl Iterator<Item = bool>) -> Result<ArrayRef, ArrowError> {
    let mut next = 0;
    let places = has_value.map(|has_value| {
        has_value.then(|| {
            next += 1;
            next - 1
        })
    });
    take(values, &places.collect::<UInt32Array>(), None)
}

/// What a sequence is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequenceResult {
    /// The first value that is not null.
    First,
    /// The last value that is not null.
    Last,
    /// The values that are not null, with a delimiter between them: the second argument, else a comma.
    ListAgg,
    /// All values.
    Array,
    /// The only value; more of them are an error.
    Single,
}

/// Values by slot in the order of arrival.
pub(crate) struct Sequence {
    codec: Codec,
    result: SequenceResult,
    data_type: DataType,
    sequences: Vec<Vec<Encoded>>,
    /// LISTAGG's, the last that came.
    delimiters: Vec<Option<Box<str>>>,
    heap: usize,
}

impl Sequence {
    pub(crate) fn new(
        value_type: DataType,
        data_type: DataType,
        result: SequenceResult,
    ) -> Result<Self, ArrowError> {
        Ok(Self {
            codec: Codec::new(value_type)?,
            result,
            data_type,
            sequences: Vec::new(),
            delimiters: Vec::new(),
            heap: 0,
        })
    }

    fn keeps_nulls(&self) -> bool {
        matches!(self.result, SequenceResult::Array | SequenceResult::Single)
    }

    fn add(&mut self, slot: usize, value: &[u8], sign: i8) {
        let sequence = &mut self.sequences[slot];
        if sign > 0 {
            sequence.push(value.into());
            self.heap += value.len() + ENTRY_BYTES;
        } else if let Some(place) = sequence.iter().position(|known| **known == *value) {
            sequence.remove(place);
            self.heap -= value.len() + ENTRY_BYTES;
        }
    }

    fn lists(
        &self,
        slots: &[Slot],
        item: &Arc<Field>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        let sequences = || slots.iter().map(|slot| &self.sequences[*slot as usize]);
        let offsets = OffsetBuffer::from_lengths(sequences().map(Vec::len));
        let values = self.codec.decode(sequences().flatten().map(|value| &**value))?;
        Ok(Arc::new(ListArray::try_new(
            Arc::clone(item),
            offsets,
            values,
            nulls,
        )?))
    }

    fn item(&self) -> Arc<Field> {
        Arc::new(Field::new("item", self.codec.data_type.clone(), true))
    }

    fn one_value(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let one = |slot: &Slot| {
            let sequence = &self.sequences[*slot as usize];
            match self.result {
                SequenceResult::Last => sequence.last(),
                _ => sequence.first(),
            }
        };
        let found: Vec<Option<&Encoded>> = slots.iter().map(one).collect();
        let values = self.codec.decode(found.iter().flatten().map(|value| &***value))?;
        spread(&values, found.iter().map(Option::is_some))
    }

    fn texts(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let lists = self.lists(slots, &self.item(), None)?;
        let lists = lists.as_list::<i32>();
        let values = lists.values().as_string::<i32>();
        let mut joined = String::new();
        let mut texts = Vec::with_capacity(slots.len());
        for (slot, range) in slots.iter().zip(lists.value_offsets().windows(2)) {
            let delimiter = self.delimiters[*slot as usize].as_deref().unwrap_or(",");
            joined.clear();
            for place in range[0]..range[1] {
                if place > range[0] {
                    joined.push_str(delimiter);
                }
                joined.push_str(values.value(place as usize));
            }
            texts.push((range[1] > range[0]).then(|| joined.clone()));
        }
        Ok(Arc::new(StringArray::from(texts)))
    }
}

impl Accumulator for Sequence {
    fn fields(&self) -> Vec<Field> {
        let mut fields = vec![Field::new("values", DataType::List(self.item()), false)];
        if self.result == SequenceResult::ListAgg {
            fields.push(Field::new("delimiter", DataType::Utf8, true));
        }
        fields
    }

    fn resize(&mut self, count: usize) {
        if count > self.sequences.len() {
            self.sequences.resize_with(count, Vec::new);
            self.delimiters.resize(count, None);
        }
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let values = argument(args, 0)?;
        let encoded = self
            .codec
            .converter
            .convert_columns(std::slice::from_ref(values))?;
        let nulls = values.logical_nulls().filter(|_| !self.keeps_nulls());
        let delimiters = args.get(1).map(|delimiters| delimiters.as_string::<i32>());
        for_each_row(rows, nulls.as_ref(), |row, slot, sign| {
            self.add(slot, encoded.row(row).data(), sign);
            if let Some(delimiters) = delimiters.filter(|delimiters| delimiters.is_valid(row)) {
                let delimiter = delimiters.value(row);
                if self.delimiters[slot].as_deref() != Some(delimiter) {
                    self.delimiters[slot] = Some(delimiter.into());
                }
            }
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let lists = argument(parts, 0)?.as_list::<i32>();
        let encoded = self
            .codec
            .converter
            .convert_columns(std::slice::from_ref(lists.values()))?;
        for (slot, range) in slots.iter().zip(lists.value_offsets().windows(2)) {
            for place in range[0] as usize..range[1] as usize {
                self.add(*slot as usize, encoded.row(place).data(), 1);
            }
        }
        if let Some(delimiters) = parts.get(1) {
            for (slot, delimiter) in slots.iter().zip(delimiters.as_string::<i32>()) {
                if let Some(delimiter) = delimiter {
                    self.delimiters[*slot as usize] = Some(delimiter.into());
                }
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        match self.result {
            SequenceResult::ListAgg => self.texts(slots),
            SequenceResult::Array => {
                let DataType::List(item) = &self.data_type else {
                    return Err(ArrowError::InvalidArgumentError(format!(
                        "ARRAY_AGG gives no {}",
                        self.data_type
                    )));
                };
                let is_there = |slot: &Slot| !self.sequences[*slot as usize].is_empty();
                self.lists(slots, item, Some(slots.iter().map(is_there).collect()))
            }
            SequenceResult::Single => {
                if slots.iter().any(|slot| self.sequences[*slot as usize].len() > 1) {
                    return Err(ArrowError::ComputeError(
                        "SingleValueAggFunction received more than one element.".to_owned(),
                    ));
                }
                self.one_value(slots)
            }
            SequenceResult::First | SequenceResult::Last => self.one_value(slots),
        }
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut parts = vec![self.lists(slots, &self.item(), None)?];
        if self.result == SequenceResult::ListAgg {
            let delimiters = slots
                .iter()
                .map(|slot| self.delimiters[*slot as usize].as_deref());
            parts.push(Arc::new(StringArray::from_iter(delimiters)));
        }
        Ok(parts)
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            let sequence = std::mem::take(&mut self.sequences[*slot as usize]);
            self.heap -= sequence
                .iter()
                .map(|value| value.len() + ENTRY_BYTES)
                .sum::<usize>();
            self.delimiters[*slot as usize] = None;
        }
    }

    fn memory_size(&self) -> usize {
        self.heap
            + self.sequences.capacity() * size_of::<Vec<Encoded>>()
            + self.delimiters.capacity() * size_of::<Option<Box<str>>>()
    }
}

/// A multiset's counts as they are given out, for tests.
#[cfg(test)]
fn counts_of(map: &ArrayRef) -> Vec<i32> {
    map.as_map()
        .values()
        .as_primitive::<arrow::datatypes::Int32Type>()
        .values()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn text_at(column: &ArrayRef, row: usize) -> Option<&str> {
        column.is_valid(row).then(|| column.as_string::<i32>().value(row))
    }

    #[test]
    fn the_least_value_comes_back_when_a_lesser_one_is_taken_away() {
        let mut least = Multiset::new(DataType::Utf8, DataType::Utf8, MultisetResult::Min).unwrap();
        least.resize(1);
        let rows = Rows {
            slots: &[0, 0, 0],
            signs: Some(&[1, 1, -1]),
        };
        least
            .update(rows, &[values(&[Some("b"), Some("a"), Some("a")])])
            .unwrap();
        assert_eq!(text_at(&least.evaluate(&[0]).unwrap(), 0), Some("b"));
        let rows = Rows {
            slots: &[0, 0],
            signs: Some(&[-1, -1]),
        };
        least.update(rows, &[values(&[Some("b"), Some("c")])]).unwrap();
        assert_eq!(text_at(&least.evaluate(&[0]).unwrap(), 0), None);
        let rows = Rows {
            slots: &[0, 0],
            signs: None,
        };
        least.update(rows, &[values(&[Some("c"), Some("d")])]).unwrap();
        assert_eq!(
            text_at(&least.evaluate(&[0]).unwrap(), 0),
            Some("d"),
            "c was taken back before it came"
        );
    }

    #[test]
    fn what_is_gathered_can_be_merged_into_a_cleared_slot() {
        let entries = DataType::Map(
            Arc::new(Field::new(
                "entries",
                DataType::Struct(Fields::from(vec![
                    Field::new("key", DataType::Utf8, false),
                    Field::new("value", DataType::Int32, false),
                ])),
                false,
            )),
            false,
        );
        let mut set = Multiset::new(DataType::Utf8, entries, MultisetResult::Collect).unwrap();
        set.resize(2);
        let slots = [0, 1, 0, 0];
        let rows = Rows {
            slots: &slots,
            signs: None,
        };
        set.update(rows, &[values(&[Some("x"), Some("z"), Some("x"), None])])
            .unwrap();
        let parts = set.gather(&[0, 1]).unwrap();
        let before = set.heap;
        set.clear(&[0, 1]);
        assert_eq!(set.heap, 0);
        set.merge(&[1, 0], &parts).unwrap();
        assert_eq!(set.heap, before);
        assert_eq!(counts_of(&set.evaluate(&[1, 0]).unwrap()), [2, 1]);
    }

    #[test]
    fn lists_are_joined_in_the_order_of_arrival_with_their_delimiter() {
        let mut list = Sequence::new(DataType::Utf8, DataType::Utf8, SequenceResult::ListAgg).unwrap();
        list.resize(2);
        let rows = Rows {
            slots: &[0, 0, 1, 0, 0],
            signs: Some(&[1, 1, 1, 1, -1]),
        };
        let texts = values(&[Some("b"), Some("a"), None, Some("c"), Some("a")]);
        let delimiters = values(&[Some("-"); 5]);
        list.update(rows, &[texts, delimiters]).unwrap();
        let result = list.evaluate(&[0, 1]).unwrap();
        assert_eq!((text_at(&result, 0), text_at(&result, 1)), (Some("b-c"), None));
    }

    #[test]
    fn two_rows_are_no_single_value() {
        let mut single = Sequence::new(DataType::Utf8, DataType::Utf8, SequenceResult::Single).unwrap();
        single.resize(1);
        let rows = Rows {
            slots: &[0, 0],
            signs: None,
        };
        single.update(rows, &[values(&[Some("a"), Some("b")])]).unwrap();
        let error = single.evaluate(&[0]).unwrap_err();
        assert!(error.to_string().contains("more than one element"), "{error}");
    }
}
