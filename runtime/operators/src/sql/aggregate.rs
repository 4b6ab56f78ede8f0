//! Aggregate functions over groups of rows: which accumulators there are, and their state.
//!
//! ```text
//!   rows with slots --signs, FILTER--> accumulators[slot]          columns of a table "accumulators"
//!        |                                  ^
//!        +--(slot, value) of DISTINCT--> new or gone values         a table by slot and value, shared by the calls over the same columns
//!
//!   results(slots) -> a column a call
//! ```
//!
//! What is stored of a call is named after its function and the input's columns ("SUM(price).sum"), so that it is found again when
//! the script names or orders its results differently; equal calls share one accumulator.
//!
//! Invariant: rows that are taken back come only where a call says so ([`AggregateCall::retracts`]); there `$rows` counts the rows
//! that are left, and a group without rows is gone.

mod accumulator;
mod collected;
mod distinct;
mod ends;
mod extreme;
mod grouped;
mod positions;
mod sums;
mod user;
mod variance;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, DurationMillisecondType, Field, FieldRef,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType,
    Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use arrow::error::ArrowError;
use thalweg_functions::user::{UserFunctions, displayed, is_user};
use thalweg_plan::Schema;
use thalweg_plan::aggregate::PARTIAL_ROWS;
use thalweg_plan::spec::AggregateCall;
use thalweg_state::{Slot, SlotColumn};

pub(crate) use accumulator::{Accumulator, Rows};
use collected::{Multiset, MultisetResult, Sequence, SequenceResult};
pub(crate) use distinct::DistinctKey;
use ends::End;
use extreme::{BooleanExtreme, BytesExtreme, Extreme};
pub(crate) use grouped::{Grouped, GroupedError};
use positions::{Lag, TimeRank};
use sums::{Bounded, Count, Sum, Wrapping, average_of_decimals, average_of_floats, average_of_integers};
use user::UserAccumulator;
use variance::{Spread, Variance};

/// A call that can't be computed: its function by name, and over which types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the aggregate function {0} is not supported")]
pub(crate) struct UnsupportedCall(pub(crate) String);

/// The accumulator of a call, whether its rows are distinct or not.
pub(crate) fn accumulator(
    call: &AggregateCall,
    functions: &UserFunctions,
) -> Result<Box<dyn Accumulator>, UnsupportedCall> {
    if is_user(&call.function) {
        let function = functions.aggregate_function(&call.function, &call.arg_types);
        let function =
            function.map_err(|message| UnsupportedCall(format!("{}: {message}", signature(call))))?;
        return Ok(Box::new(UserAccumulator::new(function)));
    }
    let result = call.data_type.to_arrow();
    let arg = call.arg_types.first().map(thalweg_plan::DataType::to_arrow);
    let found = match (call.function.as_str(), arg) {
        ("COUNT", _) => Some(Box::new(Count::default()) as Box<dyn Accumulator>),
        (function, Some(arg)) => with_argument(function, call, arg, &result),
        _ => None,
    };
    found.ok_or_else(|| UnsupportedCall(signature(call)))
}

fn signature(call: &AggregateCall) -> String {
    let types: Vec<String> = call.arg_types.iter().map(ToString::to_string).collect();
    format!("{}({})", displayed(&call.function), types.join(", "))
}

fn with_argument(
    function: &str,
    call: &AggregateCall,
    arg: DataType,
    result: &DataType,
) -> Option<Box<dyn Accumulator>> {
    let multiset = |kind| boxed(Multiset::new(arg.clone(), result.clone(), kind));
    let sequence = |kind| boxed(Sequence::new(arg.clone(), result.clone(), kind));
    let variance = |spread| Some(Box::new(Variance::new(spread, result.clone())) as Box<dyn Accumulator>);
    match function {
        "SUM" => sum(&arg, result, false, call.retracts),
        "SUM0" | "$SUM0" => sum(&arg, result, true, call.retracts),
        "AVG" => average(&arg, result),
        "MIN" if call.retracts => multiset(MultisetResult::Min),
        "MAX" if call.retracts => multiset(MultisetResult::Max),
        "MIN" => extreme::<false>(&arg),
        "MAX" => extreme::<true>(&arg),
        "FIRST_VALUE" if call.retracts => sequence(SequenceResult::First),
        "LAST_VALUE" if call.retracts => sequence(SequenceResult::Last),
        "FIRST_VALUE" => Some(Box::new(End::new(arg, false))),
        "LAST_VALUE" => Some(Box::new(End::new(arg, true))),
        "LISTAGG" if arg == DataType::Utf8 => sequence(SequenceResult::ListAgg),
        "ARRAY_AGG" if matches!(result, DataType::List(_)) => sequence(SequenceResult::Array),
        "RANK" if arg.is_temporal() => Some(Box::new(TimeRank::new(false, result.clone()))),
        "DENSE_RANK" if arg.is_temporal() => Some(Box::new(TimeRank::new(true, result.clone()))),
        "LAG" if arg == *result && !call.retracts => boxed(Lag::new(arg)),
        "SINGLE_VALUE" => sequence(SequenceResult::Single),
        "COLLECT" if matches!(result, DataType::Map(..)) => multiset(MultisetResult::Collect),
        "VAR_POP" => variance(Spread::VarPop),
        "VAR_SAMP" | "VARIANCE" => variance(Spread::VarSamp),
        "STDDEV_POP" => variance(Spread::StddevPop),
        "STDDEV_SAMP" | "STDDEV" => variance(Spread::StddevSamp),
        _ => None,
    }
}

fn boxed<A: Accumulator + 'static>(made: Result<A, ArrowError>) -> Option<Box<dyn Accumulator>> {
    made.ok()
        .map(|accumulator| Box::new(accumulator) as Box<dyn Accumulator>)
}

fn sum(arg: &DataType, result: &DataType, zero: bool, retracts: bool) -> Option<Box<dyn Accumulator>> {
    fn of<T: ArrowPrimitiveType>(result: &DataType, zero: bool, retracts: bool) -> Box<dyn Accumulator> {
        Box::new(Sum::<Wrapping<T>>::new(result.clone(), zero, retracts))
    }
    Some(match (arg, result) {
        (DataType::Decimal128(_, scale), DataType::Decimal128(_, to)) if scale == to => {
            Box::new(Sum::<Bounded>::new(result.clone(), zero, retracts))
        }
        (arg, result) if arg != result => return None,
        (DataType::Int8, _) => of::<Int8Type>(result, zero, retracts),
        (DataType::Int16, _) => of::<Int16Type>(result, zero, retracts),
        (DataType::Int32, _) => of::<Int32Type>(result, zero, retracts),
        (DataType::Int64, _) => of::<Int64Type>(result, zero, retracts),
        (DataType::Float32, _) => of::<Float32Type>(result, zero, retracts),
        (DataType::Float64, _) => of::<Float64Type>(result, zero, retracts),
        _ => return None,
    })
}

fn average(arg: &DataType, result: &DataType) -> Option<Box<dyn Accumulator>> {
    Some(match (arg, result) {
        (DataType::Decimal128(_, scale), DataType::Decimal128(..)) => {
            average_of_decimals(*scale, result.clone())
        }
        (arg, result) if arg.is_integer() && result.is_numeric() => average_of_integers(result.clone()),
        (arg, result) if arg.is_floating() && result.is_numeric() => average_of_floats(result.clone()),
        _ => return None,
    })
}

fn extreme<const MAX: bool>(arg: &DataType) -> Option<Box<dyn Accumulator>> {
    fn of<T: ArrowPrimitiveType, const MAX: bool>(arg: &DataType) -> Box<dyn Accumulator> {
        Box::new(Extreme::<T, MAX>::new(arg.clone()))
    }
    Some(match arg {
        DataType::Boolean => Box::new(BooleanExtreme::<MAX>::new()),
        DataType::Int8 => of::<Int8Type, MAX>(arg),
        DataType::Int16 => of::<Int16Type, MAX>(arg),
        DataType::Int32 => of::<Int32Type, MAX>(arg),
        DataType::Int64 => of::<Int64Type, MAX>(arg),
        DataType::Float32 => of::<Float32Type, MAX>(arg),
        DataType::Float64 => of::<Float64Type, MAX>(arg),
        DataType::Decimal128(..) => of::<Decimal128Type, MAX>(arg),
        DataType::Date32 => of::<Date32Type, MAX>(arg),
        DataType::Time32(TimeUnit::Millisecond) => of::<Time32MillisecondType, MAX>(arg),
        DataType::Timestamp(TimeUnit::Millisecond, _) => of::<TimestampMillisecondType, MAX>(arg),
        DataType::Timestamp(TimeUnit::Microsecond, _) => of::<TimestampMicrosecondType, MAX>(arg),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => of::<TimestampNanosecondType, MAX>(arg),
        DataType::Duration(TimeUnit::Millisecond) => of::<DurationMillisecondType, MAX>(arg),
        DataType::Interval(IntervalUnit::YearMonth) => of::<IntervalYearMonthType, MAX>(arg),
        DataType::Utf8 | DataType::Binary => Box::new(BytesExtreme::<MAX>::new(arg.clone())),
        _ => return None,
    })
}

/// An accumulator and what it is fed with.
struct Fed {
    /// In what is stored.
    name: String,
    function: String,
    args: Vec<usize>,
    filter: Option<usize>,
    distinct: bool,
    accumulator: Box<dyn Accumulator>,
    /// How many columns it has.
    parts: usize,
}

/// The accumulators of all calls of an operator, by slot.
pub(crate) struct Aggregates {
    fed: Vec<Fed>,
    /// Which accumulator each call has.
    of_call: Vec<usize>,
    /// How many rows are left of each group, if they may be taken back.
    rows: Option<Vec<i64>>,
}

impl Aggregates {
    /// Without slots; `input` names the columns. Calls are of Flink's functions only.
    pub(crate) fn new(
        calls: &[AggregateCall],
        input: &Schema,
        retracts: bool,
    ) -> Result<Self, UnsupportedCall> {
        Self::with_functions(calls, input, retracts, &UserFunctions::default())
    }

    /// The same of calls that may be of users' functions.
    pub(crate) fn with_functions(
        calls: &[AggregateCall],
        input: &Schema,
        retracts: bool,
        functions: &UserFunctions,
    ) -> Result<Self, UnsupportedCall> {
        let mut fed: Vec<Fed> = Vec::new();
        let mut of_call = Vec::with_capacity(calls.len());
        for call in calls {
            let same = |fed: &Fed| {
                fed.function == call.function
                    && fed.args == call.args
                    && fed.filter == call.filter
                    && fed.distinct == call.distinct
            };
            let place = match fed.iter().position(same) {
                Some(place) => place,
                None => {
                    let accumulator = accumulator(call, functions)?;
                    fed.push(Fed {
                        name: unique_name(&fed, call, input),
                        function: call.function.clone(),
                        args: call.args.clone(),
                        filter: call.filter,
                        distinct: call.distinct,
                        parts: accumulator.fields().len(),
                        accumulator,
                    });
                    fed.len() - 1
                }
            };
            of_call.push(place);
        }
        Ok(Self {
            fed,
            of_call,
            rows: retracts.then(Vec::new),
        })
    }

    /// Folds rows into all accumulators but those of DISTINCT calls; `columns` are the input's.
    pub(crate) fn update(&mut self, rows: Rows<'_>, columns: &[ArrayRef]) -> Result<(), ArrowError> {
        if let Some(counts) = &mut self.rows {
            for (row, slot) in rows.slots.iter().enumerate() {
                counts[*slot as usize] += i64::from(rows.signs.map_or(1, |signs| signs[row]));
            }
        }
        let mut selected = Selected::default();
        for fed in self.fed.iter_mut().filter(|fed| !fed.distinct) {
            let args: Vec<ArrayRef> = fed.args.iter().map(|arg| Arc::clone(&columns[*arg])).collect();
            let signs = match fed.filter {
                Some(filter) => Some(selected.signs(filter, columns, rows.signs)),
                None => rows.signs,
            };
            fed.accumulator.update(Rows { signs, ..rows }, &args)?;
        }
        Ok(())
    }

    /// Folds values that are new or gone into the accumulators of DISTINCT calls over these columns with this filter.
    pub(crate) fn update_distinct(
        &mut self,
        args: &[usize],
        filter: Option<usize>,
        rows: Rows<'_>,
        values: &[ArrayRef],
    ) -> Result<(), ArrowError> {
        let same = |fed: &&mut Fed| fed.distinct && fed.args == args && fed.filter == filter;
        for fed in self.fed.iter_mut().filter(same) {
            fed.accumulator.update(rows, values)?;
        }
        Ok(())
    }

    /// Whether rows may be taken back.
    pub(crate) fn retracts(&self) -> bool {
        self.rows.is_some()
    }

    /// The DISTINCT calls: columns and filters.
    pub(crate) fn distinct_calls(&self) -> impl Iterator<Item = (&[usize], Option<usize>)> {
        let distinct = self.fed.iter().filter(|fed| fed.distinct);
        distinct.map(|fed| (fed.args.as_slice(), fed.filter))
    }

    /// Folds the columns of [`SlotColumn::gather`] in, but those of DISTINCT calls.
    pub(crate) fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        self.merge_if(slots, parts, |fed| !fed.distinct)
    }

    fn merge_if(
        &mut self,
        slots: &[Slot],
        parts: &[ArrayRef],
        is_wanted: impl Fn(&Fed) -> bool,
    ) -> Result<(), ArrowError> {
        let mut rest = parts;
        for fed in &mut self.fed {
            let (own, others) = rest.split_at_checked(fed.parts).ok_or_else(|| {
                ArrowError::InvalidArgumentError(format!("{} has no partial results", fed.name))
            })?;
            if is_wanted(fed) {
                fed.accumulator.merge(slots, own)?;
            }
            rest = others;
        }
        self.add_rows(slots, rest.first());
        Ok(())
    }

    /// A column of results a call.
    pub(crate) fn evaluate(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let results: Vec<ArrayRef> = self
            .fed
            .iter()
            .map(|fed| fed.accumulator.evaluate(slots))
            .collect::<Result<_, _>>()?;
        Ok(self
            .of_call
            .iter()
            .map(|place| Arc::clone(&results[*place]))
            .collect())
    }

    /// The columns of [`thalweg_plan::aggregate::all_partial_fields`]: those of each call, also if calls share an accumulator.
    pub(crate) fn partials(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns = Vec::new();
        for place in &self.of_call {
            columns.extend(self.fed[*place].accumulator.gather(slots)?);
        }
        columns.extend(self.row_counts(slots));
        Ok(columns)
    }

    /// Folds the columns of [`Self::partials`] in.
    pub(crate) fn merge_partials(&mut self, slots: &[Slot], partials: &[ArrayRef]) -> Result<(), ArrowError> {
        let mut first = 0;
        let mut merged = vec![false; self.fed.len()];
        for place in &self.of_call {
            let fed = &mut self.fed[*place];
            let own = partials.get(first..first + fed.parts);
            let own = own.ok_or_else(|| {
                ArrowError::InvalidArgumentError(format!("{} has no partial results", fed.name))
            })?;
            first += fed.parts;
            if !std::mem::replace(&mut merged[*place], true) {
                fed.accumulator.merge(slots, own)?;
            }
        }
        self.add_rows(slots, partials.get(first));
        Ok(())
    }

    fn row_counts(&self, slots: &[Slot]) -> Option<ArrayRef> {
        let rows = self.rows.as_ref()?;
        let rows = slots.iter().map(|slot| rows[*slot as usize]);
        Some(Arc::new(Int64Array::from_iter_values(rows)))
    }

    fn add_rows(&mut self, slots: &[Slot], more: Option<&ArrayRef>) {
        if let (Some(counts), Some(more)) = (&mut self.rows, more) {
            for (slot, more) in slots.iter().zip(more.as_primitive::<Int64Type>().values()) {
                counts[*slot as usize] += more;
            }
        }
    }

    /// Whether no rows are left of a group; never so if rows are only added.
    #[inline]
    pub(crate) fn is_empty(&self, slot: Slot) -> bool {
        self.rows.as_ref().is_some_and(|rows| rows[slot as usize] == 0)
    }
}

/// A name that is no other's.
fn unique_name(known: &[Fed], call: &AggregateCall, input: &Schema) -> String {
    let column = |column: &usize| input.fields.get(*column).map_or("?", |field| field.name.as_str());
    let args: Vec<&str> = call.args.iter().map(column).collect();
    let args = if args.is_empty() {
        "*".to_owned()
    } else {
        args.join(", ")
    };
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let filter = call
        .filter
        .as_ref()
        .map(|filter| format!(" FILTER {}", column(filter)));
    // A user's function may be called differently in an edited script; its class is what it is.
    let function = call
        .function
        .split_once('@')
        .map_or(&*call.function, |(_, class)| class);
    let base = format!("{function}({distinct}{args}){}", filter.unwrap_or_default());
    let is_free = |name: &String| known.iter().all(|fed| fed.name != *name);
    let numbered = (2..).map(|number| format!("{base}#{number}"));
    std::iter::once(base.clone())
        .chain(numbered)
        .find(is_free)
        .unwrap_or(base)
}

/// The signs of rows under each filter, computed once.
#[derive(Default)]
struct Selected {
    known: Vec<(usize, Vec<i8>)>,
}

impl Selected {
    fn signs(&mut self, filter: usize, columns: &[ArrayRef], signs: Option<&[i8]>) -> &[i8] {
        let place = match self.known.iter().position(|(column, _)| *column == filter) {
            Some(place) => place,
            None => {
                self.known
                    .push((filter, filtered_signs(columns[filter].as_boolean(), signs)));
                self.known.len() - 1
            }
        };
        &self.known[place].1
    }
}

/// The signs of the rows for which the filter is true, and 0 for the others.
pub(crate) fn filtered_signs(filter: &BooleanArray, signs: Option<&[i8]>) -> Vec<i8> {
    let is_true = |row: usize| filter.is_valid(row) && filter.value(row);
    let sign = |row: usize| signs.map_or(1, |signs| signs[row]);
    (0..filter.len())
        .map(|row| if is_true(row) { sign(row) } else { 0 })
        .collect()
}

impl SlotColumn for Aggregates {
    fn fields(&self) -> Vec<FieldRef> {
        let parts = self.fed.iter().flat_map(|fed| {
            let fields = fed.accumulator.fields().into_iter();
            fields.map(|field| field.clone().with_name(format!("{}.{}", fed.name, field.name())))
        });
        let rows = self
            .rows
            .iter()
            .map(|_| Field::new(PARTIAL_ROWS, DataType::Int64, false));
        parts.chain(rows).map(Arc::new).collect()
    }

    fn resize(&mut self, count: usize) {
        self.fed.iter_mut().for_each(|fed| fed.accumulator.resize(count));
        if let Some(rows) = &mut self.rows {
            rows.resize(count.max(rows.len()), 0);
        }
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns = Vec::new();
        for fed in &self.fed {
            columns.extend(fed.accumulator.gather(slots)?);
        }
        columns.extend(self.row_counts(slots));
        Ok(columns)
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.clear(slots);
        self.merge_if(slots, columns, |_| true)
    }

    fn clear(&mut self, slots: &[Slot]) {
        self.fed.iter_mut().for_each(|fed| fed.accumulator.clear(slots));
        if let Some(rows) = &mut self.rows {
            slots.iter().for_each(|slot| rows[*slot as usize] = 0);
        }
    }

    fn memory_size(&self) -> usize {
        let accumulators = self.fed.iter().map(|fed| fed.accumulator.memory_size());
        accumulators.sum::<usize>()
            + self
                .rows
                .as_ref()
                .map_or(0, |rows| rows.capacity() * size_of::<i64>())
    }
}

#[cfg(test)]
mod tests;
