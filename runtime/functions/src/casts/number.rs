//! Numbers, BOOLEAN and intervals among each other.
//!
//! Whole numbers lose their high bits as in Java; FLOAT and DOUBLE are cut to the nearest number of a narrower type (`(int) 1e10` is the greatest,
//! NaN is 0); a DECIMAL is rounded half up, or null if it has too many digits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::compute::kernels::arity;
use arrow::datatypes::{
    Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalYearMonthType,
};
use thalweg_formats::text;
use thalweg_plan::TypeRoot;

use super::{Apply, each};
use crate::registry::EvaluationEnv;

/// A cast between numbers.
pub(super) fn compile(from: &TypeRoot, to: &TypeRoot, is_try: bool) -> Option<Apply> {
    Some(match from {
        TypeRoot::Boolean => of_boolean(to)?,
        TypeRoot::TinyInt => of_whole::<Int8Type>(to, is_try)?,
        TypeRoot::SmallInt => of_whole::<Int16Type>(to, is_try)?,
        TypeRoot::Int => of_whole::<Int32Type>(to, is_try)?,
        TypeRoot::BigInt => of_whole::<Int64Type>(to, is_try)?,
        TypeRoot::IntervalYearMonth => of_whole::<IntervalYearMonthType>(to, is_try)?,
        TypeRoot::IntervalDaySecond => of_whole::<DurationMillisecondType>(to, is_try)?,
        TypeRoot::Float => of_floating::<Float32Type>(to)?,
        TypeRoot::Double => of_floating::<Float64Type>(to)?,
        TypeRoot::Decimal { scale, .. } => of_decimal(*scale, to)?,
        _ => return None,
    })
}

/// A cast that has a value for every value.
fn total<I, O>(cast: impl Fn(I::Native) -> O::Native + Send + Sync + 'static) -> Apply
where
    I: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
        let result: PrimitiveArray<O> = arity::unary(array.as_primitive::<I>(), &cast);
        Ok(Arc::new(result))
    })
}

/// A cast to a DECIMAL.
fn to_decimal<I: ArrowPrimitiveType>(
    to: &TypeRoot,
    is_try: bool,
    cast: impl Fn(I::Native) -> Result<Option<i128>, String> + Send + Sync + 'static,
) -> Option<Apply> {
    let TypeRoot::Decimal { precision, scale } = *to else {
        return None;
    };
    Some(Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
        let result = each::<I, Decimal128Type>(array, is_try, &cast)?;
        let result = result.with_precision_and_scale(precision, scale as i8);
        Ok(Arc::new(result.map_err(|error| error.to_string())?))
    }))
}

fn of_boolean(to: &TypeRoot) -> Option<Apply> {
    fn cast<O: ArrowPrimitiveType>(one: O::Native, zero: O::Native) -> Apply {
        Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
            let array = array.as_boolean();
            let values = array
                .values()
                .iter()
                .map(|value| if value { one } else { zero })
                .collect::<Vec<_>>();
            Ok(Arc::new(PrimitiveArray::<O>::new(
                values.into(),
                array.nulls().cloned(),
            )))
        })
    }
    Some(match *to {
        TypeRoot::TinyInt => cast::<Int8Type>(1, 0),
        TypeRoot::SmallInt => cast::<Int16Type>(1, 0),
        TypeRoot::Int => cast::<Int32Type>(1, 0),
        TypeRoot::BigInt => cast::<Int64Type>(1, 0),
        TypeRoot::Float => cast::<Float32Type>(1.0, 0.0),
        TypeRoot::Double => cast::<Float64Type>(1.0, 0.0),
        TypeRoot::Decimal { precision, scale } => {
            // 1 has too many digits for a DECIMAL that is all fraction.
            let one = (precision > scale).then(|| 10_i128.pow(scale.into()));
            Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
                let array = array.as_boolean();
                let values = array.iter().map(|value| if value? { one } else { Some(0) });
                let result = PrimitiveArray::<Decimal128Type>::from_iter(values);
                let result = result.with_precision_and_scale(precision, scale as i8);
                Ok(Arc::new(result.map_err(|error| error.to_string())?))
            })
        }
        _ => return None,
    })
}

fn of_whole<I>(to: &TypeRoot, is_try: bool) -> Option<Apply>
where
    I: ArrowPrimitiveType<Native: Into<i64>>,
{
    fn wide<T: Into<i64>>(value: T) -> i64 {
        value.into()
    }
    Some(match *to {
        TypeRoot::Boolean => Box::new(|array: &ArrayRef, _: &EvaluationEnv| {
            let result = BooleanArray::from_unary(array.as_primitive::<I>(), |value| wide(value) != 0);
            Ok(Arc::new(result))
        }),
        TypeRoot::TinyInt => total::<I, Int8Type>(|value| wide(value) as i8),
        TypeRoot::SmallInt => total::<I, Int16Type>(|value| wide(value) as i16),
        TypeRoot::Int => total::<I, Int32Type>(|value| wide(value) as i32),
        TypeRoot::BigInt => total::<I, Int64Type>(wide),
        TypeRoot::IntervalYearMonth => total::<I, IntervalYearMonthType>(|value| wide(value) as i32),
        TypeRoot::IntervalDaySecond => total::<I, DurationMillisecondType>(wide),
        TypeRoot::Float => total::<I, Float32Type>(|value| wide(value) as f32),
        TypeRoot::Double => total::<I, Float64Type>(|value| wide(value) as f64),
        TypeRoot::Decimal { precision, scale } => {
            let rescale = Rescale::new(0, precision, scale);
            to_decimal::<I>(to, is_try, move |value| Ok(rescale.apply(wide(value).into())))?
        }
        _ => return None,
    })
}

/// NaN fails to become a DECIMAL in a TRY_CAST, too, as in Flink.
fn of_floating<I>(to: &TypeRoot) -> Option<Apply>
where
    I: ArrowPrimitiveType<Native: Into<f64>>,
{
    fn wide<T: Into<f64>>(value: T) -> f64 {
        value.into()
    }
    Some(match *to {
        TypeRoot::Boolean => Box::new(|array: &ArrayRef, _: &EvaluationEnv| {
            let result = BooleanArray::from_unary(array.as_primitive::<I>(), |value| wide(value) != 0.0);
            Ok(Arc::new(result))
        }),
        // Java casts to the two narrowest through INT.
        TypeRoot::TinyInt => total::<I, Int8Type>(|value| wide(value) as i32 as i8),
        TypeRoot::SmallInt => total::<I, Int16Type>(|value| wide(value) as i32 as i16),
        TypeRoot::Int => total::<I, Int32Type>(|value| wide(value) as i32),
        TypeRoot::BigInt => total::<I, Int64Type>(|value| wide(value) as i64),
        TypeRoot::Float => total::<I, Float32Type>(|value| wide(value) as f32),
        TypeRoot::Double => total::<I, Float64Type>(wide),
        TypeRoot::Decimal { precision, scale } => to_decimal::<I>(to, false, move |value| {
            decimal_of_double(wide(value), precision, scale)
        })?,
        _ => return None,
    })
}

/// `BigDecimal.valueOf` of a double, which goes by its shortest digits.
pub(crate) fn decimal_of_double(value: f64, precision: u8, scale: u8) -> Result<Option<i128>, String> {
    let mut digits = Vec::with_capacity(24);
    text::write_double(&mut digits, value);
    text::parse_decimal(&digits, precision, scale).map_err(|_| {
        let letter = if value.is_nan() { 'N' } else { 'I' };
        format!("Character {letter} is neither a decimal digit number, decimal point, nor \"e\" notation exponential mark.")
    })
}

fn of_decimal(scale: u8, to: &TypeRoot) -> Option<Apply> {
    let power = 10_i128.pow(scale.into());
    Some(match *to {
        TypeRoot::TinyInt => total::<Decimal128Type, Int8Type>(move |value| (value / power) as i8),
        TypeRoot::SmallInt => total::<Decimal128Type, Int16Type>(move |value| (value / power) as i16),
        TypeRoot::Int => total::<Decimal128Type, Int32Type>(move |value| (value / power) as i32),
        TypeRoot::BigInt => total::<Decimal128Type, Int64Type>(move |value| (value / power) as i64),
        TypeRoot::IntervalYearMonth => {
            total::<Decimal128Type, IntervalYearMonthType>(move |value| (value / power) as i32)
        }
        TypeRoot::IntervalDaySecond => {
            total::<Decimal128Type, DurationMillisecondType>(move |value| (value / power) as i64)
        }
        TypeRoot::Float => {
            total::<Decimal128Type, Float32Type>(move |value| double_of_decimal(value, scale) as f32)
        }
        TypeRoot::Double => {
            total::<Decimal128Type, Float64Type>(move |value| double_of_decimal(value, scale))
        }
        TypeRoot::Boolean => Box::new(|array: &ArrayRef, _: &EvaluationEnv| {
            let result = BooleanArray::from_unary(array.as_primitive::<Decimal128Type>(), |value| value != 0);
            Ok(Arc::new(result))
        }),
        TypeRoot::Decimal {
            precision,
            scale: to_scale,
        } => {
            let rescale = Rescale::new(scale, precision, to_scale);
            to_decimal::<Decimal128Type>(to, false, move |value| Ok(rescale.apply(value)))?
        }
        _ => return None,
    })
}

/// The nearest double.
pub(crate) fn double_of_decimal(value: i128, scale: u8) -> f64 {
    const EXACT: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    match EXACT.get(usize::from(scale)) {
        // Both are exact, so that the quotient is the nearest.
        Some(power) if value.unsigned_abs() < 1 << 53 => value as f64 / power,
        _ => {
            let mut digits = Vec::with_capacity(42);
            text::write_decimal_plain(&mut digits, value, scale);
            text::parse_double(&digits).unwrap_or(f64::NAN)
        }
    }
}

/// To another scale, rounded half up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rescale {
    /// Multiplies, or divides if there are fewer digits behind the point.
    power: i128,
    divides: bool,
    /// The first magnitude that has too many digits.
    limit: u128,
}

impl Rescale {
    pub(crate) fn new(from: u8, precision: u8, to: u8) -> Self {
        Self {
            power: 10_i128.pow(from.abs_diff(to).into()),
            divides: from > to,
            limit: 10_u128.pow(precision.into()),
        }
    }

    /// `None` if it has too many digits.
    pub(crate) fn apply(self, value: i128) -> Option<i128> {
        let value = match self.divides {
            false => value.checked_mul(self.power)?,
            true => {
                let (quotient, remainder) = (value / self.power, (value % self.power).abs());
                quotient
                    + if remainder >= self.power - remainder {
                        value.signum()
                    } else {
                        0
                    }
            }
        };
        (value.unsigned_abs() < self.limit).then_some(value)
    }
}
