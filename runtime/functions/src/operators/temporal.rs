//! Dates, times and timestamps plus and minus intervals; intervals times and by numbers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    Date32Type, DurationMillisecondType, Int64Type, IntervalYearMonthType, Time32MillisecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use thalweg_plan::data_type::time_unit;
use thalweg_plan::{DataType, TypeRoot};

use crate::common_type::{is_datetime, is_integer};
use crate::kernel;
use crate::registry::{Call, Signature, Value};

const MILLIS_PER_DAY: i64 = 86_400_000;
const TOO_FAR: &str = "the result is beyond what the type's unit can hold";

fn is_interval(root: &TypeRoot) -> bool {
    matches!(root, TypeRoot::IntervalYearMonth | TypeRoot::IntervalDaySecond)
}

/// Whether the operation is of this module.
pub(super) fn is_temporal(types: &[DataType]) -> bool {
    types.iter().any(|data_type| is_interval(&data_type.root))
}

/// The types, if it is an operation of this module.
pub(super) fn infer(operator: &str, left: &DataType, right: &DataType) -> Option<Signature> {
    let nullable = left.nullable || right.nullable;
    let result = |data_type: &DataType| data_type.clone().materialized().with_nullable(nullable);
    let same = |of: &DataType| Signature {
        args: vec![left.clone(), right.clone()],
        result: result(of),
    };
    match (operator, &left.root, &right.root) {
        ("+" | "-", a, b) if is_datetime(a) && is_interval(b) => Some(same(left)),
        ("+", a, b) if is_interval(a) && is_datetime(b) => Some(same(right)),
        ("+" | "-", a, b) if is_interval(a) && a == b => Some(same(left)),
        ("*", a, b) if is_interval(a) && is_integer(b) => Some(Signature {
            args: vec![
                left.clone(),
                DataType {
                    root: TypeRoot::BigInt,
                    ..right.clone()
                },
            ],
            result: result(left),
        }),
        ("*", a, b) if is_integer(a) && is_interval(b) => Some(Signature {
            args: vec![
                DataType {
                    root: TypeRoot::BigInt,
                    ..left.clone()
                },
                right.clone(),
            ],
            result: result(right),
        }),
        _ => None,
    }
}

/// The values.
pub(super) fn arithmetic(operator: &str, call: &Call<'_>) -> Result<ArrayRef, String> {
    let [left, right] = call.args else {
        return Err("two arguments are needed".into());
    };
    let [a, b] = call.arg_types else {
        return Err("two arguments are needed".into());
    };
    match (&a.root, &b.root) {
        (point, interval) if is_datetime(point) => moved(left, point, right, interval, operator == "-"),
        (interval, point) if is_datetime(point) => moved(right, point, left, interval, false),
        (TypeRoot::IntervalYearMonth, _) | (_, TypeRoot::IntervalYearMonth) => {
            months(operator, left, right, a, b)
        }
        _ => millis(operator, left, right, a, b),
    }
}

fn months(
    operator: &str,
    left: &Value,
    right: &Value,
    a: &DataType,
    b: &DataType,
) -> Result<ArrayRef, String> {
    type M = IntervalYearMonthType;
    Ok(match (&a.root, &b.root) {
        (TypeRoot::IntervalYearMonth, TypeRoot::IntervalYearMonth) => Arc::new(match operator {
            "+" => kernel::binary::<M, M, M>(left, right, i32::wrapping_add),
            _ => kernel::binary::<M, M, M>(left, right, i32::wrapping_sub),
        }),
        (TypeRoot::IntervalYearMonth, _) => {
            Arc::new(kernel::binary::<M, Int64Type, M>(left, right, |a, b| {
                i64::from(a).wrapping_mul(b) as i32
            }))
        }
        _ => Arc::new(kernel::binary::<Int64Type, M, M>(left, right, |a, b| {
            a.wrapping_mul(b.into()) as i32
        })),
    })
}

fn millis(
    operator: &str,
    left: &Value,
    right: &Value,
    a: &DataType,
    b: &DataType,
) -> Result<ArrayRef, String> {
    type M = DurationMillisecondType;
    Ok(match (&a.root, &b.root) {
        (TypeRoot::IntervalDaySecond, TypeRoot::IntervalDaySecond) => Arc::new(match operator {
            "+" => kernel::binary::<M, M, M>(left, right, i64::wrapping_add),
            _ => kernel::binary::<M, M, M>(left, right, i64::wrapping_sub),
        }),
        (TypeRoot::IntervalDaySecond, _) => {
            Arc::new(kernel::binary::<M, Int64Type, M>(left, right, i64::wrapping_mul))
        }
        _ => Arc::new(kernel::binary::<Int64Type, M, M>(left, right, i64::wrapping_mul)),
    })
}

/// A point of time, moved by an interval, or back by it.
fn moved(
    point: &Value,
    root: &TypeRoot,
    interval: &Value,
    by: &TypeRoot,
    back: bool,
) -> Result<ArrayRef, String> {
    let sign = if back { -1 } else { 1 };
    match (root, by) {
        (TypeRoot::Date, TypeRoot::IntervalDaySecond) => {
            let days = |date: i32, millis: i64| {
                let days = i64::from(date) + sign * (millis / MILLIS_PER_DAY);
                i32::try_from(days)
                    .map(Some)
                    .map_err(|_| "integer overflow".to_owned())
            };
            let moved =
                kernel::try_binary::<Date32Type, DurationMillisecondType, Date32Type>(point, interval, days)?;
            Ok(Arc::new(moved))
        }
        (TypeRoot::Date, _) => {
            let months = |date: i32, months: i32| add_months(date.into(), sign * i64::from(months)) as i32;
            let moved =
                kernel::binary::<Date32Type, IntervalYearMonthType, Date32Type>(point, interval, months);
            Ok(Arc::new(moved))
        }
        (TypeRoot::Time(_), TypeRoot::IntervalDaySecond) => {
            let wrapped = |time: i32, millis: i64| {
                ((i64::from(time) + MILLIS_PER_DAY + sign * (millis % MILLIS_PER_DAY)) % MILLIS_PER_DAY)
                    as i32
            };
            type T = Time32MillisecondType;
            Ok(Arc::new(kernel::binary::<T, DurationMillisecondType, T>(
                point, interval, wrapped,
            )))
        }
        (TypeRoot::Time(_), _) => {
            type T = Time32MillisecondType;
            Ok(Arc::new(kernel::binary::<T, IntervalYearMonthType, T>(
                point,
                interval,
                |time, _| time,
            )))
        }
        (TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _), by) => {
            let by_months = *by == TypeRoot::IntervalYearMonth;
            match time_unit(*precision) {
                TimeUnit::Microsecond => {
                    timestamps::<TimestampMicrosecondType>(point, interval, by_months, sign, 1_000)
                }
                TimeUnit::Nanosecond => {
                    timestamps::<TimestampNanosecondType>(point, interval, by_months, sign, 1_000_000)
                }
                _ => timestamps::<TimestampMillisecondType>(point, interval, by_months, sign, 1),
            }
        }
        _ => Err("no such arithmetic".into()),
    }
}

fn timestamps<T: ArrowPrimitiveType<Native = i64>>(
    point: &Value,
    interval: &Value,
    by_months: bool,
    sign: i64,
    per_milli: i64,
) -> Result<ArrayRef, String> {
    let per_day = MILLIS_PER_DAY * per_milli;
    let moved: PrimitiveArray<T> = if by_months {
        kernel::try_binary::<T, IntervalYearMonthType, T>(point, interval, |time, months| {
            let days = add_months(time.div_euclid(per_day), sign * i64::from(months));
            let moved = days
                .checked_mul(per_day)
                .and_then(|days| days.checked_add(time.rem_euclid(per_day)));
            moved.map(Some).ok_or_else(|| TOO_FAR.into())
        })?
    } else {
        kernel::try_binary::<T, DurationMillisecondType, T>(point, interval, |time, millis| {
            let moved = millis
                .checked_mul(sign * per_milli)
                .and_then(|change| time.checked_add(change));
            moved.map(Some).ok_or_else(|| TOO_FAR.into())
        })?
    };
    let data_type = point.array().as_primitive::<T>().data_type().clone();
    Ok(Arc::new(moved.with_data_type(data_type)))
}

/// Days since the epoch, months later; a day behind its month's end becomes the end.
pub(crate) fn add_months(days: i64, months: i64) -> i64 {
    let (year, month, day) = crate::casts::calendar::date_of_days(days);
    let total = year * 12 + (month - 1) + months;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
    let last = crate::casts::calendar::days_in_month(year, month);
    crate::casts::calendar::days_of_date(year, month, day.min(last))
}
