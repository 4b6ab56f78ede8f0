//! `sum`, `min` and `max` of one column of a window's records; the other columns are those of its first record, as in Flink.
//!
//! ```text
//!   column --cast, once a batch--> Int64 | UInt64 | Float64 --row by row--> number of the accumulator
//!   emit: the first record; finish: the numbers' column takes the aggregated one's place in the whole piece of output
//! ```
//!
//! Invariant: `emitted` has the number of each row of the piece of output, so the rows must go out as they are.
//!
//! Sums of integers wrap at the bounds of the column's type, floats are added in the column's type. A null adds nothing.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use thalweg_operators::rolling::Aggregation;
use thalweg_types::StreamBatch;

use super::fold::Fold;
use crate::process::UserError;
use crate::record::{Record, RecordError, RecordRef};

/// An integer (an unsigned one as the bits of a signed one) or a float; neither before the first value.
type Number = (Option<i64>, Option<f64>);

/// One column's values of a batch.
#[derive(Clone)]
enum Values {
    None,
    Signed(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
}

impl Values {
    fn of(column: &ArrayRef) -> Option<Self> {
        let widened = |to: &DataType| cast(column, to).ok();
        Some(match column.data_type() {
            DataType::Float32 | DataType::Float64 => {
                Self::Float(widened(&DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            unsigned if unsigned.is_unsigned_integer() => {
                Self::Unsigned(widened(&DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
            }
            _ => Self::Signed(widened(&DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        })
    }

    fn get(&self, row: usize) -> Number {
        match self {
            Self::Signed(values) if values.is_valid(row) => (Some(values.value(row)), None),
            Self::Unsigned(values) if values.is_valid(row) => (Some(values.value(row) as i64), None),
            Self::Float(values) if values.is_valid(row) => (None, Some(values.value(row))),
            _ => (None, None),
        }
    }
}

/// Aggregates one column of `T`.
#[derive(Clone)]
pub(crate) struct Numeric<T> {
    aggregation: Aggregation,
    field: usize,
    data_type: DataType,
    values: Values,
    emitted: Vec<Number>,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Numeric<T> {
    /// `data_type` is that of column `field`, and one that [`Aggregation::supports`].
    pub(crate) fn new(aggregation: Aggregation, field: usize, data_type: DataType) -> Self {
        Self {
            aggregation,
            field,
            data_type,
            values: Values::None,
            emitted: Vec::new(),
            record: PhantomData,
        }
    }

    fn join(&self, running: &mut Number, value: Number) {
        match (&mut *running, value) {
            ((Some(running), _), (Some(value), _)) => *running = self.join_integers(*running, value),
            ((_, Some(running)), (_, Some(value))) => *running = self.join_floats(*running, value),
            (_, (None, None)) => {}
            _ => *running = value,
        }
    }

    fn join_integers(&self, running: i64, value: i64) -> i64 {
        let is_less = if self.data_type.is_unsigned_integer() {
            (value as u64) < running as u64
        } else {
            value < running
        };
        match self.aggregation {
            Aggregation::Sum => running.wrapping_add(value),
            Aggregation::Min if is_less => value,
            Aggregation::Max if !is_less => value,
            Aggregation::Min | Aggregation::Max => running,
        }
    }

    fn join_floats(&self, running: f64, value: f64) -> f64 {
        match self.aggregation {
            Aggregation::Sum if self.data_type == DataType::Float32 => {
                f64::from(running as f32 + value as f32)
            }
            Aggregation::Sum => running + value,
            Aggregation::Min if value.total_cmp(&running).is_lt() => value,
            Aggregation::Max if value.total_cmp(&running).is_gt() => value,
            Aggregation::Min | Aggregation::Max => running,
        }
    }

    /// The column of what was emitted; wraps where its type is narrower.
    fn column(&mut self) -> ArrayRef {
        let numbers = self.emitted.drain(..);
        let integers = |(integer, _): Number| integer;
        let floats = |(_, float): Number| float;
        macro_rules! column {
            ($array:ty, $number:ident as $native:ty) => {
                Arc::new(
                    numbers
                        .map($number)
                        .map(|number| number.map(|number| number as $native))
                        .collect::<$array>(),
                )
            };
        }
        match &self.data_type {
            DataType::Int8 => column!(Int8Array, integers as i8),
            DataType::Int16 => column!(Int16Array, integers as i16),
            DataType::Int32 => column!(Int32Array, integers as i32),
            DataType::UInt8 => column!(UInt8Array, integers as u8),
            DataType::UInt16 => column!(UInt16Array, integers as u16),
            DataType::UInt32 => column!(UInt32Array, integers as u32),
            DataType::UInt64 => column!(UInt64Array, integers as u64),
            DataType::Float32 => column!(Float32Array, floats as f32),
            DataType::Float64 => Arc::new(numbers.map(floats).collect::<Float64Array>()),
            _ => Arc::new(numbers.map(integers).collect::<Int64Array>()),
        }
    }
}

impl<T: Record> Fold for Numeric<T> {
    type In = T;
    type Accumulator = (T, Number);
    type Value = T;
    const NEEDS_BATCH: bool = true;

    fn take(&mut self, batch: &StreamBatch) -> Result<(), RecordError> {
        let column = batch.rows.column(self.field);
        self.values = Values::of(column).ok_or_else(|| RecordError::ColumnType {
            column: batch.rows.schema().field(self.field).name().clone(),
            wanted: self.data_type.clone(),
            found: column.data_type().clone(),
        })?;
        Ok(())
    }

    fn first(&mut self, row: usize, record: RecordRef<'_, T>) -> (T, Number) {
        (T::own(record), self.values.get(row))
    }

    fn add(&mut self, (_, number): &mut (T, Number), row: usize, _record: RecordRef<'_, T>) {
        self.join(number, self.values.get(row));
    }

    fn merge(&mut self, (_, number): &mut (T, Number), (_, other): &(T, Number)) {
        self.join(number, *other);
    }

    fn value(
        &mut self,
        (first, number): &(T, Number),
        emit: impl FnOnce(&T) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        self.emitted.push(*number);
        emit(first)
    }

    fn finish(&mut self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if rows.num_rows() == 0 {
            return Ok(rows);
        }
        let mut columns = rows.columns().to_vec();
        columns[self.field] = self.column();
        RecordBatch::try_new(rows.schema(), columns)
    }
}
