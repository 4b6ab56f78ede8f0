//! COUNT, SUM, SUM0 and AVG.
//!
//! As in Flink sums of integers wrap; a sum of decimals that overflows is null and begins anew with the next value; AVG of
//! integers truncates.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, Int64Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type};
use arrow::error::ArrowError;
use thalweg_state::Slot;

use super::accumulator::{Accumulator, Rows, argument, for_each_row, for_each_value, primitive};

/// Beyond a DECIMAL(38, ..).
const DECIMAL_BOUND: i128 = 10_i128.pow(38);

/// COUNT(*) and COUNT(x).
#[derive(Default)]
pub(crate) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn fields(&self) -> Vec<Field> {
        vec![Field::new("count", DataType::Int64, false)]
    }

    fn resize(&mut self, count: usize) {
        self.counts.resize(count.max(self.counts.len()), 0);
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let counts = &mut self.counts;
        let nulls = args.first().and_then(|arg| arg.logical_nulls());
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        if rows.signs.is_none() && nulls.is_none() {
            for slot in rows.slots {
                counts[*slot as usize] += 1;
            }
            return Ok(());
        }
        for_each_row(rows, nulls.as_ref(), |_, slot, sign| {
            counts[slot] += i64::from(sign);
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let counts = primitive::<Int64Type>(argument(parts, 0)?)?;
        for (slot, count) in slots.iter().zip(counts.values()) {
            self.counts[*slot as usize] += count;
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let counts = slots.iter().map(|slot| self.counts[*slot as usize]);
        Ok(Arc::new(Int64Array::from_iter_values(counts)))
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn clear(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.counts[*slot as usize] = 0);
    }

    fn memory_size(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}

/// How numbers are added; `None` beyond the type's bounds where it has such.
pub(crate) trait Adding: Send + 'static {
    type Type: ArrowPrimitiveType;
    fn add(
        a: <Self::Type as ArrowPrimitiveType>::Native,
        b: <Self::Type as ArrowPrimitiveType>::Native,
    ) -> Option<<Self::Type as ArrowPrimitiveType>::Native>;
    fn subtract(
        a: <Self::Type as ArrowPrimitiveType>::Native,
        b: <Self::Type as ArrowPrimitiveType>::Native,
    ) -> Option<<Self::Type as ArrowPrimitiveType>::Native>;
}

/// Integers wrap, floats go to infinity.
pub(crate) struct Wrapping<T>(std::marker::PhantomData<fn() -> T>);

impl<T: ArrowPrimitiveType> Adding for Wrapping<T> {
    type Type = T;

    #[inline]
    fn add(a: T::Native, b: T::Native) -> Option<T::Native> {
        Some(a.add_wrapping(b))
    }

    #[inline]
    fn subtract(a: T::Native, b: T::Native) -> Option<T::Native> {
        Some(a.sub_wrapping(b))
    }
}

/// Unscaled values of DECIMAL(38, ..).
pub(crate) struct Bounded;

impl Adding for Bounded {
    type Type = Decimal128Type;

    #[inline]
    fn add(a: i128, b: i128) -> Option<i128> {
        a.checked_add(b).filter(|sum| sum.abs() < DECIMAL_BOUND)
    }

    #[inline]
    fn subtract(a: i128, b: i128) -> Option<i128> {
        a.checked_sub(b).filter(|sum| sum.abs() < DECIMAL_BOUND)
    }
}

type Native<A> = <<A as Adding>::Type as ArrowPrimitiveType>::Native;

/// SUM, and SUM0, which is 0 where SUM is null.
pub(crate) struct Sum<A: Adding> {
    data_type: DataType,
    zero: bool,
    sums: Vec<Native<A>>,
    /// Whether there is a sum.
    seen: Vec<bool>,
    /// How many values, if they may be taken back: none gives null.
    counts: Option<Vec<i64>>,
}

impl<A: Adding> Sum<A> {
    pub(crate) fn new(data_type: DataType, zero: bool, retracts: bool) -> Self {
        Self {
            data_type,
            zero,
            sums: Vec::new(),
            seen: Vec::new(),
            counts: retracts.then(Vec::new),
        }
    }

    #[inline]
    fn fold(&mut self, slot: usize, value: Native<A>, sign: i8) {
        let sum = &mut self.sums[slot];
        let before = if self.seen[slot] {
            *sum
        } else {
            Native::<A>::default()
        };
        let after = if sign > 0 {
            A::add(before, value)
        } else {
            A::subtract(before, value)
        };
        *sum = after.unwrap_or_default();
        self.seen[slot] = after.is_some();
    }

    fn column(&self, sums: PrimitiveArray<A::Type>) -> ArrayRef {
        Arc::new(sums.with_data_type(self.data_type.clone()))
    }
}

impl<A: Adding> Accumulator for Sum<A> {
    fn fields(&self) -> Vec<Field> {
        let mut fields = vec![Field::new("sum", self.data_type.clone(), true)];
        if self.counts.is_some() {
            fields.push(Field::new("count", DataType::Int64, false));
        }
        fields
    }

    fn resize(&mut self, count: usize) {
        let count = count.max(self.sums.len());
        self.sums.resize(count, Native::<A>::default());
        self.seen.resize(count, false);
        if let Some(counts) = &mut self.counts {
            counts.resize(count, 0);
        }
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let values = primitive::<A::Type>(argument(args, 0)?)?;
        if let Some(mut counts) = self.counts.take() {
            for_each_value(rows, values, |slot, value, sign| {
                self.fold(slot, value, sign);
                counts[slot] += i64::from(sign);
            });
            self.counts = Some(counts);
        } else {
            for_each_value(rows, values, |slot, value, sign| self.fold(slot, value, sign));
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let sums = primitive::<A::Type>(argument(parts, 0)?)?;
        for_each_value(Rows { slots, signs: None }, sums, |slot, sum, _| {
            self.fold(slot, sum, 1);
        });
        if let Some(counts) = &mut self.counts {
            let more = primitive::<Int64Type>(argument(parts, 1)?)?;
            for (slot, more) in slots.iter().zip(more.values()) {
                counts[*slot as usize] += more;
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let sum = |slot: &Slot| {
            let slot = *slot as usize;
            let has_values = self.counts.as_ref().is_none_or(|counts| counts[slot] != 0);
            let sum = (self.seen[slot] && has_values).then(|| self.sums[slot]);
            if self.zero {
                Some(sum.unwrap_or_default())
            } else {
                sum
            }
        };
        Ok(self.column(slots.iter().map(sum).collect()))
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let sum = |slot: &Slot| self.seen[*slot as usize].then(|| self.sums[*slot as usize]);
        let mut parts = vec![self.column(slots.iter().map(sum).collect())];
        if let Some(counts) = &self.counts {
            let counts = slots.iter().map(|slot| counts[*slot as usize]);
            parts.push(Arc::new(Int64Array::from_iter_values(counts)));
        }
        Ok(parts)
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.sums[*slot as usize] = Native::<A>::default();
            self.seen[*slot as usize] = false;
            if let Some(counts) = &mut self.counts {
                counts[*slot as usize] = 0;
            }
        }
    }

    fn memory_size(&self) -> usize {
        self.sums.capacity() * size_of::<Native<A>>()
            + self.seen.capacity()
            + self
                .counts
                .as_ref()
                .map_or(0, |counts| counts.capacity() * size_of::<i64>())
    }
}

/// A sum by a count; the types are the sum's and the result's.
type Divide<A> = fn(Native<A>, i64, &DataType, &DataType) -> Option<Native<A>>;

/// AVG of sums of `A`; arguments are cast to its type.
pub(crate) struct Average<A: Adding> {
    sum_type: DataType,
    data_type: DataType,
    sums: Vec<Native<A>>,
    /// The sum has overflown: null, as whatever is added to it.
    overflown: Vec<bool>,
    counts: Vec<i64>,
    /// The result of sum and count.
    divide: Divide<A>,
    /// The type of [`Self::divide`]'s results.
    quotient_type: DataType,
}

/// AVG of integers.
pub(crate) fn average_of_integers(data_type: DataType) -> Box<dyn Accumulator> {
    Box::new(Average::<Wrapping<Int64Type>>::new(
        DataType::Int64,
        DataType::Int64,
        data_type,
        |sum, count, _, _| Some(sum.wrapping_div(count)),
    ))
}

/// AVG of floats.
pub(crate) fn average_of_floats(data_type: DataType) -> Box<dyn Accumulator> {
    Box::new(Average::<Wrapping<Float64Type>>::new(
        DataType::Float64,
        DataType::Float64,
        data_type,
        |sum, count, _, _| Some(sum / count as f64),
    ))
}

/// AVG of decimals: DECIMAL(38, scale) / count, rounded half up at the result's scale; null where that overflows.
pub(crate) fn average_of_decimals(scale: i8, data_type: DataType) -> Box<dyn Accumulator> {
    Box::new(Average::<Bounded>::new(
        DataType::Decimal128(38, scale),
        data_type.clone(),
        data_type,
        divide_decimal,
    ))
}

fn divide_decimal(sum: i128, count: i64, sum_type: &DataType, data_type: &DataType) -> Option<i128> {
    let (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) = (sum_type, data_type) else {
        return None;
    };
    let count = i128::from(count);
    let digits = i32::from(*to) - i32::from(*from);
    let half_up = |value: i128, divisor: i128| {
        let (quotient, rest) = (value / divisor, value % divisor);
        match 2 * rest.abs() >= divisor.abs() {
            true => quotient + value.signum() * divisor.signum(),
            false => quotient,
        }
    };
    if digits < 0 {
        return Some(half_up(
            sum,
            count.checked_mul(10_i128.checked_pow(digits.unsigned_abs())?)?,
        ));
    }
    let factor = 10_i128.checked_pow(digits.unsigned_abs())?;
    let (whole, rest) = (sum / count, sum % count);
    let whole = whole.checked_mul(factor)?;
    let fraction = half_up(rest.checked_mul(factor)?, count);
    whole
        .checked_add(fraction)
        .filter(|value| value.abs() < DECIMAL_BOUND)
}

impl<A: Adding> Average<A> {
    fn new(sum_type: DataType, quotient_type: DataType, data_type: DataType, divide: Divide<A>) -> Self {
        Self {
            sum_type,
            data_type,
            sums: Vec::new(),
            overflown: Vec::new(),
            counts: Vec::new(),
            divide,
            quotient_type,
        }
    }

    #[inline]
    fn fold(&mut self, slot: usize, value: Native<A>, sign: i8) {
        let sum = &mut self.sums[slot];
        match if sign > 0 {
            A::add(*sum, value)
        } else {
            A::subtract(*sum, value)
        } {
            Some(after) => *sum = after,
            None => self.overflown[slot] = true,
        }
    }

    fn column(data_type: &DataType, values: PrimitiveArray<A::Type>) -> ArrayRef {
        Arc::new(values.with_data_type(data_type.clone()))
    }
}

impl<A: Adding> Accumulator for Average<A> {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("sum", self.sum_type.clone(), true),
            Field::new("count", DataType::Int64, false),
        ]
    }

    fn resize(&mut self, count: usize) {
        let count = count.max(self.sums.len());
        self.sums.resize(count, Native::<A>::default());
        self.overflown.resize(count, false);
        self.counts.resize(count, 0);
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let column = argument(args, 0)?;
        let widened;
        // Decimals keep their scale, and their precision doesn't matter here.
        let column = match (column.data_type(), &self.sum_type) {
            (found, wanted) if found == wanted => column,
            (DataType::Decimal128(..), DataType::Decimal128(..)) => column,
            (_, wanted) => {
                widened = cast(column, wanted)?;
                &widened
            }
        };
        let values = primitive::<A::Type>(column)?;
        let mut counts = std::mem::take(&mut self.counts);
        for_each_value(rows, values, |slot, value, sign| {
            self.fold(slot, value, sign);
            counts[slot] += i64::from(sign);
        });
        self.counts = counts;
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let sums = primitive::<A::Type>(argument(parts, 0)?)?;
        let counts = primitive::<Int64Type>(argument(parts, 1)?)?;
        for (row, slot) in slots.iter().enumerate() {
            let slot = *slot as usize;
            match sums.is_valid(row) {
                true => self.fold(slot, sums.value(row), 1),
                false => self.overflown[slot] = true,
            }
            self.counts[slot] += counts.value(row);
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let average = |slot: &Slot| {
            let slot = *slot as usize;
            let count = self.counts[slot];
            let is_value = count != 0 && !self.overflown[slot];
            is_value
                .then(|| (self.divide)(self.sums[slot], count, &self.sum_type, &self.quotient_type))
                .flatten()
        };
        let quotients = Self::column(&self.quotient_type, slots.iter().map(average).collect());
        cast(&quotients, &self.data_type)
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let sum = |slot: &Slot| (!self.overflown[*slot as usize]).then(|| self.sums[*slot as usize]);
        let counts = slots.iter().map(|slot| self.counts[*slot as usize]);
        Ok(vec![
            Self::column(&self.sum_type, slots.iter().map(sum).collect()),
            Arc::new(Int64Array::from_iter_values(counts)),
        ])
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.sums[*slot as usize] = Native::<A>::default();
            self.overflown[*slot as usize] = false;
            self.counts[*slot as usize] = 0;
        }
    }

    fn memory_size(&self) -> usize {
        self.sums.capacity() * size_of::<Native<A>>()
            + self.overflown.capacity()
            + self.counts.capacity() * size_of::<i64>()
    }
}

/// An unscaled value, for tests of decimals.
#[cfg(test)]
pub(crate) fn decimals(values: &[Option<i128>], precision: u8, scale: i8) -> ArrayRef {
    let values = arrow::array::Decimal128Array::from(values.to_vec());
    Arc::new(values.with_precision_and_scale(precision, scale).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::Int32Type;

    fn rows<'a>(slots: &'a [Slot], signs: Option<&'a [i8]>) -> Rows<'a> {
        Rows { slots, signs }
    }

    #[test]
    fn sums_of_integers_wrap_as_javas() {
        let mut sum = Sum::<Wrapping<Int32Type>>::new(DataType::Int32, false, false);
        sum.resize(2);
        let values: ArrayRef = Arc::new(Int32Array::from(vec![Some(i32::MAX), Some(1), None]));
        sum.update(rows(&[0, 0, 1], None), &[values]).unwrap();
        let result = sum.evaluate(&[0, 1]).unwrap();
        let result: Vec<_> = result.as_primitive::<Int32Type>().iter().collect();
        assert_eq!(result, [Some(i32::MIN), None]);
    }

    #[test]
    fn a_sum_of_which_all_values_were_taken_back_is_null() {
        let mut sum = Sum::<Wrapping<Int64Type>>::new(DataType::Int64, false, true);
        sum.resize(1);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![5, 5]));
        sum.update(rows(&[0, 0], Some(&[1, -1])), &[values]).unwrap();
        assert!(sum.evaluate(&[0]).unwrap().is_null(0));
    }

    #[test]
    fn a_sum_of_decimals_that_overflows_begins_anew() {
        let mut sum = Sum::<Bounded>::new(DataType::Decimal128(38, 0), false, false);
        sum.resize(1);
        let large = DECIMAL_BOUND - 1;
        let values = decimals(&[Some(large), Some(1)], 38, 0);
        sum.update(rows(&[0, 0], None), &[values]).unwrap();
        assert!(sum.evaluate(&[0]).unwrap().is_null(0));
        sum.update(rows(&[0], None), &[decimals(&[Some(3)], 38, 0)])
            .unwrap();
        let result = sum.evaluate(&[0]).unwrap();
        assert_eq!(result.as_primitive::<Decimal128Type>().value(0), 3);
    }

    #[test]
    fn averages_of_integers_truncate_and_keep_their_type() {
        let mut average = average_of_integers(DataType::Int32);
        average.resize(1);
        let values: ArrayRef = Arc::new(Int32Array::from(vec![-3, -4]));
        average.update(rows(&[0, 0], None), &[values]).unwrap();
        let result = average.evaluate(&[0]).unwrap();
        assert_eq!(result.as_primitive::<Int32Type>().value(0), -3);
    }

    #[test]
    fn averages_of_decimals_round_half_up_away_from_zero() {
        let mut average = average_of_decimals(0, DataType::Decimal128(38, 6));
        average.resize(2);
        let values = decimals(&[Some(1), Some(0), Some(0), Some(-2), Some(0), Some(0)], 5, 0);
        average
            .update(rows(&[0, 0, 0, 1, 1, 1], None), &[values])
            .unwrap();
        let result = average.evaluate(&[0, 1]).unwrap();
        assert_eq!(
            result.as_primitive::<Decimal128Type>().values().to_vec(),
            [333_333, -666_667]
        );
    }
}
