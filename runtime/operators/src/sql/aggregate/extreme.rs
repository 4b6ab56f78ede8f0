//! MIN and MAX of rows that are only added: the best value so far.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray,
    PrimitiveArray, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, UInt8Type};
use arrow::error::ArrowError;
use thalweg_state::Slot;

use super::accumulator::{Accumulator, Rows, argument, for_each_row, for_each_value, primitive};

/// Values of fixed width.
pub(crate) struct Extreme<T: ArrowPrimitiveType, const MAX: bool> {
    data_type: DataType,
    best: Vec<T::Native>,
    seen: Vec<bool>,
}

impl<T: ArrowPrimitiveType, const MAX: bool> Extreme<T, MAX> {
    pub(crate) fn new(data_type: DataType) -> Self {
        Self {
            data_type,
            best: Vec::new(),
            seen: Vec::new(),
        }
    }

    #[inline]
    fn fold(&mut self, slot: usize, value: T::Native) {
        let best = self.best[slot];
        let is_better = if MAX { value.is_gt(best) } else { value.is_lt(best) };
        if is_better || !self.seen[slot] {
            self.best[slot] = value;
            self.seen[slot] = true;
        }
    }
}

impl<T: ArrowPrimitiveType, const MAX: bool> Accumulator for Extreme<T, MAX> {
    fn fields(&self) -> Vec<Field> {
        vec![Field::new("value", self.data_type.clone(), true)]
    }

    fn resize(&mut self, count: usize) {
        let count = count.max(self.best.len());
        self.best.resize(count, T::Native::default());
        self.seen.resize(count, false);
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let values = primitive::<T>(argument(args, 0)?)?;
        for_each_value(rows, values, |slot, value, _| self.fold(slot, value));
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        self.update(Rows { slots, signs: None }, parts)
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let best = |slot: &Slot| self.seen[*slot as usize].then(|| self.best[*slot as usize]);
        let best: PrimitiveArray<T> = slots.iter().map(best).collect();
        Ok(Arc::new(best.with_data_type(self.data_type.clone())))
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn clear(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.seen[*slot as usize] = false);
    }

    fn memory_size(&self) -> usize {
        self.best.capacity() * size_of::<T::Native>() + self.seen.capacity()
    }
}

/// BOOLEAN: as its byte.
pub(crate) struct BooleanExtreme<const MAX: bool>(Extreme<UInt8Type, MAX>);

impl<const MAX: bool> BooleanExtreme<MAX> {
    pub(crate) fn new() -> Self {
        Self(Extreme::new(DataType::UInt8))
    }
}

impl<const MAX: bool> Accumulator for BooleanExtreme<MAX> {
    fn fields(&self) -> Vec<Field> {
        vec![Field::new("value", DataType::Boolean, true)]
    }

    fn resize(&mut self, count: usize) {
        self.0.resize(count);
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let bytes = cast(argument(args, 0)?, &DataType::UInt8)?;
        self.0.update(rows, &[bytes])
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        self.update(Rows { slots, signs: None }, parts)
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let bytes = self.0.evaluate(slots)?;
        let bytes = bytes.as_primitive::<UInt8Type>();
        Ok(Arc::new(BooleanArray::from_iter(
            bytes.iter().map(|byte| byte.map(|byte| byte != 0)),
        )))
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn clear(&mut self, slots: &[Slot]) {
        self.0.clear(slots);
    }

    fn memory_size(&self) -> usize {
        self.0.memory_size()
    }
}

/// Strings and bytes, by their bytes.
pub(crate) struct BytesExtreme<const MAX: bool> {
    data_type: DataType,
    best: Vec<Option<Box<[u8]>>>,
    heap: usize,
}

impl<const MAX: bool> BytesExtreme<MAX> {
    /// Of Utf8 or Binary.
    pub(crate) fn new(data_type: DataType) -> Self {
        Self {
            data_type,
            best: Vec::new(),
            heap: 0,
        }
    }

    #[inline]
    fn fold(&mut self, slot: usize, value: &[u8]) {
        let best = &mut self.best[slot];
        let is_better = match best {
            Some(best) => (MAX && value > &**best) || (!MAX && value < &**best),
            None => true,
        };
        if is_better {
            self.heap += value.len();
            self.heap -= best.as_ref().map_or(0, |best| best.len());
            *best = Some(value.into());
        }
    }
}

impl<const MAX: bool> Accumulator for BytesExtreme<MAX> {
    fn fields(&self) -> Vec<Field> {
        vec![Field::new("value", self.data_type.clone(), true)]
    }

    fn resize(&mut self, count: usize) {
        if count > self.best.len() {
            self.best.resize(count, None);
        }
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let values = argument(args, 0)?;
        match values.data_type() {
            DataType::Utf8 => {
                let values = values.as_string::<i32>();
                for_each_row(rows, values.nulls(), |row, slot, _| {
                    self.fold(slot, values.value(row).as_bytes());
                });
            }
            DataType::Binary => {
                let values = values.as_binary::<i32>();
                for_each_row(rows, values.nulls(), |row, slot, _| {
                    self.fold(slot, values.value(row));
                });
            }
            other => {
                return Err(ArrowError::InvalidArgumentError(format!(
                    "an aggregated column became {other}"
                )));
            }
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        self.update(Rows { slots, signs: None }, parts)
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let best = slots.iter().map(|slot| self.best[*slot as usize].as_deref());
        Ok(match self.data_type {
            DataType::Utf8 => Arc::new(StringArray::try_from_binary(BinaryArray::from_iter(best))?),
            _ => Arc::new(BinaryArray::from_iter(best)),
        })
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            let best = self.best[*slot as usize].take();
            self.heap -= best.map_or(0, |best| best.len());
        }
    }

    fn memory_size(&self) -> usize {
        self.heap + self.best.capacity() * size_of::<Option<Box<[u8]>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array};
    use arrow::datatypes::{Float64Type, Int64Type};

    fn added(slots: &[Slot]) -> Rows<'_> {
        Rows { slots, signs: None }
    }

    #[test]
    fn the_least_and_the_greatest_leave_nulls_out() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None, Some(-5), None]));
        let mut least = Extreme::<Int64Type, false>::new(DataType::Int64);
        least.resize(2);
        least.update(added(&[0, 0, 0, 1]), &[values]).unwrap();
        let result = least.evaluate(&[0, 1]).unwrap();
        assert_eq!(
            result.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
            [Some(-5), None]
        );
    }

    #[test]
    fn the_greatest_of_floats_counts_nan_as_greatest() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, 2.0]));
        let mut greatest = Extreme::<Float64Type, true>::new(DataType::Float64);
        greatest.resize(1);
        greatest.update(added(&[0, 0, 0]), &[values]).unwrap();
        let result = greatest.evaluate(&[0]).unwrap();
        assert!(result.as_primitive::<Float64Type>().value(0).is_nan());
    }

    #[test]
    fn texts_are_compared_by_their_bytes_and_their_room_is_counted() {
        let mut greatest = BytesExtreme::<true>::new(DataType::Utf8);
        greatest.resize(1);
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), Some("ä"), Some("Z"), None]));
        greatest.update(added(&[0, 0, 0, 0]), &[values]).unwrap();
        assert_eq!(greatest.evaluate(&[0]).unwrap().as_string::<i32>().value(0), "ä");
        assert_eq!(greatest.heap, 2);
        greatest.clear(&[0]);
        assert_eq!(greatest.heap, 0);
    }
}
