//! Literals as arrays of one value, and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    DurationMillisecondArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    IntervalYearMonthArray, StringArray, Time32MillisecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, new_null_array,
};
use arrow::datatypes::{
    Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalYearMonthType, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use thalweg_plan::data_type::time_unit;
use thalweg_plan::{DataType, Literal, TypeRoot};

/// An array of the one value. The error says what doesn't fit.
pub(crate) fn literal_array(literal: &Literal, data_type: &DataType) -> Result<ArrayRef, String> {
    let wrong = || format!("{literal:?} is no value of type {data_type}");
    let array: ArrayRef = match (&data_type.root, literal) {
        (_, Literal::Null) => new_null_array(&data_type.to_arrow(), 1),
        (TypeRoot::Boolean, Literal::Boolean(value)) => Arc::new(BooleanArray::from(vec![*value])),
        (TypeRoot::TinyInt, Literal::Int(value)) => {
            Arc::new(Int8Array::from(vec![i8::try_from(*value).map_err(|_| wrong())?]))
        }
        (TypeRoot::SmallInt, Literal::Int(value)) => Arc::new(Int16Array::from(vec![
            i16::try_from(*value).map_err(|_| wrong())?,
        ])),
        (TypeRoot::BigInt, Literal::Int(value)) => Arc::new(Int64Array::from(vec![*value])),
        (TypeRoot::IntervalDaySecond, Literal::Int(value)) => {
            Arc::new(DurationMillisecondArray::from(vec![*value]))
        }
        (root, Literal::Int(value)) => {
            let value = i32::try_from(*value).map_err(|_| wrong())?;
            match root {
                TypeRoot::Int => Arc::new(Int32Array::from(vec![value])),
                TypeRoot::Date => Arc::new(Date32Array::from(vec![value])),
                TypeRoot::Time(_) => Arc::new(Time32MillisecondArray::from(vec![value])),
                TypeRoot::IntervalYearMonth => Arc::new(IntervalYearMonthArray::from(vec![value])),
                _ => return Err(wrong()),
            }
        }
        (TypeRoot::Float, Literal::Double(value)) => Arc::new(Float32Array::from(vec![*value as f32])),
        (TypeRoot::Double, Literal::Double(value)) => Arc::new(Float64Array::from(vec![*value])),
        (TypeRoot::Decimal { precision, scale }, Literal::Decimal(value)) => Arc::new(
            Decimal128Array::from(vec![*value])
                .with_precision_and_scale(*precision, *scale as i8)
                .map_err(|_| wrong())?,
        ),
        (TypeRoot::Char(_) | TypeRoot::VarChar(_), Literal::String(value)) => {
            Arc::new(StringArray::from_iter_values([value.as_ref()]))
        }
        (TypeRoot::Binary(_) | TypeRoot::VarBinary(_), Literal::Bytes(value)) => {
            Arc::new(BinaryArray::from_iter_values([value.as_ref()]))
        }
        (
            TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _),
            Literal::Timestamp(seconds, nanos),
        ) => {
            let is_instant = matches!(data_type.root, TypeRoot::TimestampLtz(..));
            timestamp_array(*seconds, *nanos, time_unit(*precision), is_instant).ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    Ok(array)
}

fn timestamp_array(seconds: i64, nanos: u32, unit: TimeUnit, is_instant: bool) -> Option<ArrayRef> {
    let value = |per_second: i64| {
        let fraction = i64::from(nanos) / (1_000_000_000 / per_second);
        // In 128 bits, since the seconds of the smallest value multiply to less than it.
        let value = i128::from(seconds) * i128::from(per_second) + i128::from(fraction);
        i64::try_from(value).ok()
    };
    let zone = is_instant.then_some("UTC");
    Some(match unit {
        TimeUnit::Microsecond => {
            Arc::new(TimestampMicrosecondArray::from(vec![value(1_000_000)?]).with_timezone_opt(zone))
                as ArrayRef
        }
        TimeUnit::Nanosecond => {
            Arc::new(TimestampNanosecondArray::from(vec![value(1_000_000_000)?]).with_timezone_opt(zone))
        }
        _ => Arc::new(TimestampMillisecondArray::from(vec![value(1_000)?]).with_timezone_opt(zone)),
    })
}

/// The literal of a row's value; `None` if its type has no literals.
pub(crate) fn array_literal(array: &dyn Array, row: usize, data_type: &DataType) -> Option<Literal> {
    if array.is_null(row) || data_type.root == TypeRoot::Null {
        return Some(Literal::Null);
    }
    Some(match &data_type.root {
        TypeRoot::Boolean => Literal::Boolean(array.as_boolean().value(row)),
        TypeRoot::TinyInt => Literal::Int(array.as_primitive::<Int8Type>().value(row).into()),
        TypeRoot::SmallInt => Literal::Int(array.as_primitive::<Int16Type>().value(row).into()),
        TypeRoot::Int => Literal::Int(array.as_primitive::<Int32Type>().value(row).into()),
        TypeRoot::BigInt => Literal::Int(array.as_primitive::<Int64Type>().value(row)),
        TypeRoot::Float => Literal::Double(array.as_primitive::<Float32Type>().value(row).into()),
        TypeRoot::Double => Literal::Double(array.as_primitive::<Float64Type>().value(row)),
        TypeRoot::Decimal { .. } => Literal::Decimal(array.as_primitive::<Decimal128Type>().value(row)),
        TypeRoot::Char(_) | TypeRoot::VarChar(_) => {
            Literal::String(array.as_string::<i32>().value(row).into())
        }
        TypeRoot::Binary(_) | TypeRoot::VarBinary(_) => {
            Literal::Bytes(array.as_binary::<i32>().value(row).into())
        }
        TypeRoot::Date => Literal::Int(array.as_primitive::<Date32Type>().value(row).into()),
        TypeRoot::Time(_) => Literal::Int(array.as_primitive::<Time32MillisecondType>().value(row).into()),
        TypeRoot::IntervalYearMonth => {
            Literal::Int(array.as_primitive::<IntervalYearMonthType>().value(row).into())
        }
        TypeRoot::IntervalDaySecond => {
            Literal::Int(array.as_primitive::<DurationMillisecondType>().value(row))
        }
        TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _) => {
            let (value, per_second) = match time_unit(*precision) {
                TimeUnit::Microsecond => (
                    array.as_primitive::<TimestampMicrosecondType>().value(row),
                    1_000_000,
                ),
                TimeUnit::Nanosecond => (
                    array.as_primitive::<TimestampNanosecondType>().value(row),
                    1_000_000_000,
                ),
                _ => (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
            };
            let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
            Literal::Timestamp(value.div_euclid(per_second), nanos as u32)
        }
        _ => return None,
    })
}
