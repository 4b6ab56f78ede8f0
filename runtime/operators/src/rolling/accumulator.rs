//! Columnar accumulators: one value a slot, folded batch by batch.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use super::Aggregation;
use thalweg_state::key_index::Slot;

/// Running values by slot.
pub(super) trait Accumulator: Send {
    /// Makes room for slots below `count`.
    fn resize(&mut self, count: usize);
    /// Folds each row's value into its slot and returns the slot's value behind that row.
    fn fold(&mut self, values: &ArrayRef, slots: &[Slot]) -> Result<ArrayRef, ArrowError>;
    /// The values of these slots; null where there was none yet.
    fn gather(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError>;
    /// Sets the values of these slots.
    fn scatter(&mut self, slots: &[Slot], values: &ArrayRef) -> Result<(), ArrowError>;
    /// These slots have no value any more.
    fn clear(&mut self, slots: &[Slot]);
    /// Bytes held.
    fn memory_size(&self) -> usize;
}

/// The accumulator of an aggregation over a type; `None` if there is none.
pub(super) fn new(aggregation: Aggregation, data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    Some(match data_type {
        DataType::Int8 => of::<Int8Type>(aggregation),
        DataType::Int16 => of::<Int16Type>(aggregation),
        DataType::Int32 => of::<Int32Type>(aggregation),
        DataType::Int64 => of::<Int64Type>(aggregation),
        DataType::UInt8 => of::<UInt8Type>(aggregation),
        DataType::UInt16 => of::<UInt16Type>(aggregation),
        DataType::UInt32 => of::<UInt32Type>(aggregation),
        DataType::UInt64 => of::<UInt64Type>(aggregation),
        DataType::Float32 => of::<Float32Type>(aggregation),
        DataType::Float64 => of::<Float64Type>(aggregation),
        _ => return None,
    })
}

fn of<T: ArrowPrimitiveType>(aggregation: Aggregation) -> Box<dyn Accumulator> {
    match aggregation {
        Aggregation::Sum => Box::new(Running::<T, Sum>::default()),
        Aggregation::Min => Box::new(Running::<T, Min>::default()),
        Aggregation::Max => Box::new(Running::<T, Max>::default()),
    }
}

/// How a value joins the running one.
trait Fold: Send {
    fn fold<N: ArrowNativeTypeOp>(running: N, value: N) -> N;
}

struct Sum;
struct Min;
struct Max;

impl Fold for Sum {
    #[inline]
    fn fold<N: ArrowNativeTypeOp>(running: N, value: N) -> N {
        running.add_wrapping(value)
    }
}

impl Fold for Min {
    #[inline]
    fn fold<N: ArrowNativeTypeOp>(running: N, value: N) -> N {
        if value.is_lt(running) { value } else { running }
    }
}

impl Fold for Max {
    #[inline]
    fn fold<N: ArrowNativeTypeOp>(running: N, value: N) -> N {
        if value.is_gt(running) { value } else { running }
    }
}

struct Running<T: ArrowPrimitiveType, F> {
    values: Vec<T::Native>,
    /// Whether the slot has had a value yet.
    seen: Vec<bool>,
    fold: PhantomData<F>,
}

impl<T: ArrowPrimitiveType, F> Default for Running<T, F> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            seen: Vec::new(),
            fold: PhantomData,
        }
    }
}

impl<T: ArrowPrimitiveType, F: Fold> Running<T, F> {
    #[inline]
    fn add(&mut self, slot: usize, value: T::Native) -> T::Native {
        let running = &mut self.values[slot];
        *running = if self.seen[slot] {
            F::fold(*running, value)
        } else {
            value
        };
        self.seen[slot] = true;
        *running
    }

    fn column<'a>(&self, values: &'a ArrayRef) -> Result<&'a PrimitiveArray<T>, ArrowError> {
        values.as_primitive_opt::<T>().ok_or_else(|| {
            ArrowError::InvalidArgumentError(format!("the aggregated column became {}", values.data_type()))
        })
    }
}

impl<T: ArrowPrimitiveType, F: Fold> Accumulator for Running<T, F> {
    fn resize(&mut self, count: usize) {
        if count > self.values.len() {
            self.values.resize(count, T::Native::default());
            self.seen.resize(count, false);
        }
    }

    fn gather(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let value = |slot: &Slot| self.seen[*slot as usize].then(|| self.values[*slot as usize]);
        Ok(Arc::new(slots.iter().map(value).collect::<PrimitiveArray<T>>()))
    }

    fn scatter(&mut self, slots: &[Slot], values: &ArrayRef) -> Result<(), ArrowError> {
        for (slot, value) in slots.iter().zip(self.column(values)?) {
            self.values[*slot as usize] = value.unwrap_or_default();
            self.seen[*slot as usize] = value.is_some();
        }
        Ok(())
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.seen[*slot as usize] = false;
        }
    }

    fn fold(&mut self, values: &ArrayRef, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let column = self.column(values)?;
        let slots = slots.iter().map(|slot| *slot as usize);
        if column.null_count() == 0 {
            // The usual case: the running value can be null only for a slot without any value, and each row brings one.
            let running = slots
                .zip(column.values())
                .map(|(slot, value)| self.add(slot, *value));
            return Ok(Arc::new(PrimitiveArray::<T>::from_iter_values(running)));
        }
        let mut running = Vec::with_capacity(column.len());
        let mut valid = Vec::with_capacity(column.len());
        for (slot, value) in slots.zip(column.iter()) {
            running.push(match value {
                Some(value) => self.add(slot, value),
                None => self.values[slot],
            });
            valid.push(self.seen[slot]);
        }
        Ok(Arc::new(PrimitiveArray::<T>::try_new(
            running.into(),
            Some(NullBuffer::from(valid)),
        )?))
    }

    fn memory_size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.seen.capacity()
    }
}
