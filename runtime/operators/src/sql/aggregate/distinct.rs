//! DISTINCT: which values a group has, and when one is new or gone.
//!
//! ```text
//!   (slot, value) --index--> entry: how often it is there, for each FILTER       entries of a slot are a chain
//!   0 -> some: +1 for the accumulators of that filter        some -> 0: -1
//! ```
//!
//! All calls over the same columns share one table: COUNT(DISTINCT x), COUNT(DISTINCT x) FILTER (WHERE a), .. keep each value of x once.
//! Where rows are only added an entry says but whether a value has come.
//!
//! State: a table "distinct(x)" of a list of (values, a count for each filter) by key. Nulls are no values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray, UInt32Array, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use arrow::error::ArrowError;
use thalweg_plan::Schema;
use thalweg_state::{ColumnHandle, KeyIndex, KeyIndexError, KeyedState, Slot, SlotColumn, StateTtl};
use thalweg_types::key_hash::hash_rows;

use super::super::columns::own_items;
use super::accumulator::Rows;
use super::grouped::{GroupedError, columns_of};
use super::{Aggregates, filtered_signs};

const NONE: u32 = u32::MAX;

/// How often each row's value is added (or taken back, if negative) under one filter; `None`: once each.
pub(crate) type Numbers = Option<Vec<i64>>;

/// Values of groups with their numbers: row `i` is of the group at place `owners[i]` among those that were asked for.
pub(crate) struct Values {
    pub(crate) owners: Vec<u32>,
    pub(crate) values: Vec<ArrayRef>,
    /// By filter.
    pub(crate) signs: Vec<Numbers>,
}

/// What is new or gone.
pub(crate) struct Changed {
    /// By filter.
    filters: Vec<Transitions>,
    values: Vec<ArrayRef>,
}

#[derive(Default)]
struct Transitions {
    slots: Vec<Slot>,
    rows: Vec<u32>,
    signs: Vec<i8>,
}

/// The DISTINCT calls over the same columns.
pub(crate) struct DistinctKey {
    args: Vec<usize>,
    filters: Vec<Option<usize>>,
    table: ColumnHandle<Distincts>,
    /// For windows that are combined of slices.
    uniting: Distincts,
    new_rows: Vec<u32>,
}

impl DistinctKey {
    /// Registers a table for each set of columns.
    pub(crate) fn register_all(
        state: &mut KeyedState,
        suffix: &str,
        aggregates: &Aggregates,
        input: &Schema,
        ttl: Option<StateTtl>,
    ) -> Result<Vec<Self>, GroupedError> {
        let retracts = aggregates.retracts();
        let mut found: Vec<(Vec<usize>, Vec<Option<usize>>)> = Vec::new();
        for (args, filter) in aggregates.distinct_calls() {
            let known = found.iter_mut().find(|(known, _)| known == args);
            match known {
                Some((_, filters)) if filters.contains(&filter) => {}
                Some((_, filters)) => filters.push(filter),
                None => found.push((args.to_vec(), vec![filter])),
            }
        }
        let keys = found.into_iter().map(|(args, filters)| {
            let name = |column: &usize| input.fields[*column].name.as_str();
            let names: Vec<&str> = args.iter().map(name).collect();
            let values = || Distincts::new(input, &args, &filters, retracts);
            let table = format!("distinct({}){suffix}", names.join(", "));
            Ok(Self {
                table: state.register_columns(&table, values()?, ttl)?,
                uniting: values()?,
                args,
                filters,
                new_rows: Vec::new(),
            })
        });
        keys.collect()
    }

    /// The values of rows.
    pub(crate) fn values(&self, columns: &[ArrayRef]) -> Vec<ArrayRef> {
        columns_of(columns, &self.args)
    }

    /// How often each row's value counts, by filter.
    pub(crate) fn signs(&self, columns: &[ArrayRef], signs: Option<&[i8]>) -> Vec<Numbers> {
        let wide = |signs: &[i8]| signs.iter().map(|sign| i64::from(*sign)).collect();
        let numbers = self.filters.iter().map(|filter| match filter {
            None => signs.map(wide),
            Some(filter) => Some(wide(&filtered_signs(columns[*filter].as_boolean(), signs))),
        });
        numbers.collect()
    }

    /// Adds values to groups; `unique` are the slots of those that count, each once.
    pub(crate) fn add(
        &mut self,
        state: &mut KeyedState,
        unique: &[Slot],
        slots: &[Slot],
        values: &[ArrayRef],
        numbers: &[Numbers],
    ) -> Result<Changed, GroupedError> {
        let table = state.table(self.table).write(unique, &mut self.new_rows);
        Ok(table.add(slots, values, numbers)?)
    }

    /// The values of groups.
    pub(crate) fn look_at(&self, state: &mut KeyedState, slots: &[Slot]) -> Result<Values, GroupedError> {
        Ok(state.table(self.table).read(slots).values_of(slots)?)
    }

    /// The values of groups, which have none any more.
    pub(crate) fn take(&mut self, state: &mut KeyedState, slots: &[Slot]) -> Result<Values, GroupedError> {
        let values = self.look_at(state, slots)?;
        self.clear(state, slots)?;
        Ok(values)
    }

    /// Groups have no values any more.
    pub(crate) fn clear(&mut self, state: &mut KeyedState, slots: &[Slot]) -> Result<(), GroupedError> {
        state.table(self.table).clear(slots);
        Ok(())
    }

    /// The different values of groups that are put together, without keeping them.
    pub(crate) fn unite(&mut self, groups: &[Slot], values: &Values) -> Result<Changed, GroupedError> {
        let count = groups.iter().max().map_or(0, |group| *group as usize + 1);
        self.uniting.resize(count);
        let united = self.uniting.add(groups, &values.values, &values.signs);
        let all: Vec<Slot> = (0..count as Slot).collect();
        self.uniting.clear(&all);
        Ok(united?)
    }
}

impl Changed {
    /// Tells the accumulators of the calls.
    pub(crate) fn apply(&self, aggregates: &mut Aggregates, key: &DistinctKey) -> Result<(), GroupedError> {
        for (filter, transitions) in key.filters.iter().zip(&self.filters) {
            if transitions.slots.is_empty() {
                continue;
            }
            let rows = UInt32Array::from(transitions.rows.clone());
            let values = self.values.iter().map(|values| take(values, &rows, None));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            let rows = Rows {
                slots: &transitions.slots,
                signs: Some(&transitions.signs),
            };
            aggregates.update_distinct(&key.args, *filter, rows, &values)?;
        }
        Ok(())
    }
}

/// How often values are there: a number for each entry and filter.
enum Counts {
    /// A bit a filter: the value has come.
    Seen(Vec<u64>),
    Counted(Vec<i64>),
}

/// Values by slot.
pub(crate) struct Distincts {
    /// Of what is stored: the values, then a count for each filter.
    fields: Fields,
    filters: usize,
    /// By slot and value.
    index: KeyIndex,
    counts: Counts,
    /// By entry: its neighbours among those of its slot.
    links: Vec<(u32, u32)>,
    /// By slot: its first entry.
    first: Vec<u32>,
    hashes: Vec<u64>,
    entries: Vec<u32>,
    new_rows: Vec<u32>,
}

impl Distincts {
    fn new(
        input: &Schema,
        args: &[usize],
        filters: &[Option<usize>],
        retracts: bool,
    ) -> Result<Self, ArrowError> {
        let values = args.iter().map(|column| {
            let field = &input.fields[*column];
            Field::new(&field.name, field.data_type.to_arrow(), true)
        });
        let values: Vec<Field> = values.collect();
        let mut types = vec![DataType::UInt32];
        types.extend(values.iter().map(|field| field.data_type().clone()));
        let counts = filters.iter().map(|filter| {
            let name = filter.map(|column| format!("$count FILTER {}", input.fields[column].name));
            Field::new(
                name.unwrap_or_else(|| "$count".to_owned()),
                DataType::Int64,
                false,
            )
        });
        let fields: Vec<Field> = values.iter().cloned().chain(counts).collect();
        Ok(Self {
            fields: fields.into(),
            filters: filters.len(),
            index: KeyIndex::new(&types).map_err(index_error)?,
            counts: match retracts || filters.len() > 64 {
                true => Counts::Counted(Vec::new()),
                false => Counts::Seen(Vec::new()),
            },
            links: Vec::new(),
            first: Vec::new(),
            hashes: Vec::new(),
            entries: Vec::new(),
            new_rows: Vec::new(),
        })
    }

    /// Adds values; what is new or gone by that.
    fn add(
        &mut self,
        slots: &[Slot],
        values: &[ArrayRef],
        numbers: &[Numbers],
    ) -> Result<Changed, ArrowError> {
        let mut changed = Changed {
            filters: numbers.iter().map(|_| Transitions::default()).collect(),
            values: values.to_vec(),
        };
        let counting = counting_rows(slots.len(), values, numbers);
        let all_slots;
        let all_values;
        let (slots, values) = match &counting {
            None => (slots, values),
            Some(rows) => {
                all_slots = rows.iter().map(|row| slots[*row as usize]).collect::<Vec<Slot>>();
                let rows = UInt32Array::from(rows.clone());
                let taken = values.iter().map(|values| take(values, &rows, None));
                all_values = taken.collect::<Result<Vec<_>, _>>()?;
                (all_slots.as_slice(), all_values.as_slice())
            }
        };
        self.find(slots, values)?;
        for (filter, (numbers, transitions)) in numbers.iter().zip(&mut changed.filters).enumerate() {
            for (place, (entry, slot)) in self.entries.iter().zip(slots).enumerate() {
                let row = counting.as_ref().map_or(place as u32, |rows| rows[place]);
                let number = numbers.as_ref().map_or(1, |numbers| numbers[row as usize]);
                let sign = self.counts.add(*entry as usize, self.filters, filter, number);
                if sign != 0 {
                    transitions.slots.push(*slot);
                    transitions.rows.push(row);
                    transitions.signs.push(sign);
                }
            }
        }
        if numbers.iter().any(Option::is_some) {
            self.drop_empty(slots);
        }
        Ok(changed)
    }

    /// The entry of each row in `entries`; new ones are linked, with counts of 0.
    fn find(&mut self, slots: &[Slot], values: &[ArrayRef]) -> Result<(), ArrowError> {
        self.entries.clear();
        if slots.is_empty() {
            return Ok(());
        }
        hash_rows(values, &mut self.hashes)
            .map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
        let hashes = self.hashes.iter().zip(slots);
        let hashes = UInt64Array::from_iter_values(hashes.map(|(hash, slot)| with_slot(*hash, *slot)));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(slots.to_vec()))];
        columns.extend(values.iter().cloned());
        self.index
            .slots(&columns, &hashes, &mut self.entries, &mut self.new_rows)
            .map_err(index_error)?;
        self.links.resize(self.index.slot_count(), (NONE, NONE));
        self.counts
            .resize(self.index.slot_count() * self.filters, self.index.slot_count());
        for row in &self.new_rows {
            let (entry, slot) = (self.entries[*row as usize], slots[*row as usize] as usize);
            let next = std::mem::replace(&mut self.first[slot], entry);
            self.links[entry as usize] = (NONE, next);
            if next != NONE {
                self.links[next as usize].0 = entry;
            }
        }
        Ok(())
    }

    /// Forgets the entries of the last rows that are there under no filter.
    fn drop_empty(&mut self, slots: &[Slot]) {
        let entries = std::mem::take(&mut self.entries);
        for (entry, slot) in entries.iter().zip(slots) {
            if self.index.is_live(*entry) && self.counts.is_zero(*entry as usize, self.filters) {
                let (previous, next) = self.links[*entry as usize];
                match previous {
                    NONE => self.first[*slot as usize] = next,
                    previous => self.links[previous as usize].1 = next,
                }
                if next != NONE {
                    self.links[next as usize].0 = previous;
                }
                self.index.remove(*entry);
            }
        }
        self.entries = entries;
    }

    /// The entries of slots, with the place of their slot.
    fn entries_of(&self, slots: &[Slot]) -> (Vec<u32>, Vec<u32>) {
        let (mut owners, mut entries) = (Vec::new(), Vec::new());
        for (owner, slot) in (0..).zip(slots) {
            let mut entry = self.first[*slot as usize];
            while entry != NONE {
                owners.push(owner);
                entries.push(entry);
                entry = self.links[entry as usize].1;
            }
        }
        (owners, entries)
    }

    fn values_of(&self, slots: &[Slot]) -> Result<Values, ArrowError> {
        let (owners, entries) = self.entries_of(slots);
        let mut values = self.index.keys(&entries).map_err(index_error)?;
        values.remove(0);
        let of_filter = |filter| {
            entries
                .iter()
                .map(move |entry| self.counts.get(*entry as usize, self.filters, filter))
        };
        Ok(Values {
            owners,
            values,
            signs: (0..self.filters)
                .map(|filter| Some(of_filter(filter).collect()))
                .collect(),
        })
    }

    fn item(&self) -> FieldRef {
        Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), false))
    }
}

/// The rows whose values are not null and count under any filter; `None`: all.
fn counting_rows(rows: usize, values: &[ArrayRef], numbers: &[Numbers]) -> Option<Vec<u32>> {
    let has_nulls = values.iter().any(|values| values.logical_null_count() > 0);
    if !has_nulls && numbers.iter().any(Option::is_none) {
        return None;
    }
    let nulls: Vec<_> = values
        .iter()
        .filter_map(|values| values.logical_nulls())
        .collect();
    let counts = |row: usize| {
        nulls.iter().all(|nulls| nulls.is_valid(row))
            && numbers
                .iter()
                .any(|numbers| numbers.as_ref().is_none_or(|numbers| numbers[row] != 0))
    };
    let counting: Vec<u32> = (0..rows)
        .filter(|row| counts(*row))
        .map(|row| row as u32)
        .collect();
    (counting.len() < rows).then_some(counting)
}

impl Counts {
    /// `len` counts, of so many entries.
    fn resize(&mut self, len: usize, entries: usize) {
        match self {
            Self::Seen(seen) => seen.resize(entries, 0),
            Self::Counted(counts) => counts.resize(len, 0),
        }
    }

    /// Adds to the count of one of so many filters: +1 if there are some now, -1 if there are none any more. As in Flink what isn't
    /// there can't be taken back.
    #[inline]
    fn add(&mut self, entry: usize, filters: usize, filter: usize, number: i64) -> i8 {
        match self {
            Self::Seen(seen) => {
                let bits = &mut seen[entry];
                let bit = 1 << filter;
                let is_new = number > 0 && *bits & bit == 0;
                if is_new {
                    *bits |= bit;
                }
                i8::from(is_new)
            }
            Self::Counted(counts) => {
                let count = &mut counts[entry * filters + filter];
                let before = *count;
                *count = (before + number).max(0);
                i8::from(*count > 0) - i8::from(before > 0)
            }
        }
    }

    fn get(&self, entry: usize, filters: usize, filter: usize) -> i64 {
        match self {
            Self::Seen(seen) => i64::from(seen[entry] & (1 << filter) != 0),
            Self::Counted(counts) => counts[entry * filters + filter],
        }
    }

    fn is_zero(&self, entry: usize, filters: usize) -> bool {
        match self {
            Self::Seen(seen) => seen[entry] == 0,
            Self::Counted(counts) => counts[entry * filters..][..filters]
                .iter()
                .all(|count| *count == 0),
        }
    }

    fn clear(&mut self, entry: usize, filters: usize) {
        match self {
            Self::Seen(seen) => seen[entry] = 0,
            Self::Counted(counts) => counts[entry * filters..][..filters].fill(0),
        }
    }

    fn memory_size(&self) -> usize {
        match self {
            Self::Seen(seen) => seen.capacity() * size_of::<u64>(),
            Self::Counted(counts) => counts.capacity() * size_of::<i64>(),
        }
    }
}

/// The hash of a value and its slot; not stored.
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

impl SlotColumn for Distincts {
    fn fields(&self) -> Vec<FieldRef> {
        vec![Arc::new(Field::new("values", DataType::List(self.item()), false))]
    }

    fn resize(&mut self, count: usize) {
        self.first.resize(count.max(self.first.len()), NONE);
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let found = self.values_of(slots)?;
        let mut lengths = vec![0; slots.len()];
        found
            .owners
            .iter()
            .for_each(|owner| lengths[*owner as usize] += 1);
        let mut columns = found.values;
        for counts in found.signs {
            columns.push(Arc::new(Int64Array::from(counts.unwrap_or_default())));
        }
        let values = StructArray::try_new(self.fields.clone(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let lists = ListArray::try_new(self.item(), offsets, Arc::new(values), None)?;
        Ok(vec![Arc::new(lists)])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.clear(slots);
        let wrong = || ArrowError::InvalidArgumentError("distinct values are no list of rows".to_owned());
        let lists = columns
            .first()
            .and_then(|column| column.as_list_opt::<i32>())
            .ok_or_else(wrong)?;
        let (offsets, rows) = own_items(lists);
        let rows = rows.as_struct_opt().ok_or_else(wrong)?;
        let (values, counts) = rows.columns().split_at(rows.num_columns() - self.filters);
        let numbers = counts
            .iter()
            .map(|counts| Some(counts.as_primitive::<Int64Type>().values().to_vec()));
        let numbers: Vec<Numbers> = numbers.collect();
        let mut owners = vec![0; rows.len()];
        for (slot, range) in slots.iter().zip(offsets.windows(2)) {
            owners[range[0]..range[1]].fill(*slot);
        }
        self.add(&owners, values, &numbers)?;
        Ok(())
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            let mut entry = std::mem::replace(&mut self.first[*slot as usize], NONE);
            while entry != NONE {
                self.index.remove(entry);
                self.counts.clear(entry as usize, self.filters);
                entry = self.links[entry as usize].1;
            }
        }
    }

    fn memory_size(&self) -> usize {
        self.index.memory_size()
            + self.counts.memory_size()
            + self.links.capacity() * size_of::<(u32, u32)>()
            + self.first.capacity() * size_of::<u32>()
            + self.hashes.capacity() * size_of::<u64>()
            + (self.entries.capacity() + self.new_rows.capacity()) * size_of::<u32>()
    }

    fn give_back(&mut self) -> Result<(), ArrowError> {
        self.index.give_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
