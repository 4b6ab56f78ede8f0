//! Parts of points of time, and their distances.
//!
//! As in Flink, what is below a day is a Java remainder (negative before 1970) and the day of a timestamp is its milliseconds
//! divided towards zero.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, DurationMillisecondType, Int32Type, Int64Type, IntervalYearMonthType,
    Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use thalweg_plan::data_type::{TimeKind, time_unit};
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::support::{any_nullable, literal_text, texts};
use super::units::{MILLIS_PER_DAY, Unit};
use crate::casts::calendar::{date_of_days, days_of_date};
use crate::casts::session_zone;
use crate::common_type::{is_datetime, is_integer};
use crate::kernel;
use crate::operators::add_months;
use crate::registry::{Call, ScalarFunction, Signature, Value};
use crate::zone::Zone;

/// A part by its own name.
macro_rules! part {
    ($name:literal, $unit:expr) => {
        ScalarFunction {
            name: $name,
            usage: concat!($name, "(timepoint)"),
            infer: |args| match args {
                [point] => infer_part($unit, point, Vec::new()),
                _ => Err("(TIMEPOINT)".into()),
            },
            kernel: |call| extract(call, $unit, 0),
            is_deterministic: true,
        }
    };
}

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "EXTRACT",
        usage: "EXTRACT(unit FROM timepoint)",
        infer: infer_extract,
        kernel: |call| extract(call, constant_unit(call)?, 1),
        is_deterministic: true,
    },
    part!("YEAR", Unit::Year),
    part!("QUARTER", Unit::Quarter),
    part!("MONTH", Unit::Month),
    part!("WEEK", Unit::Week),
    part!("DAYOFYEAR", Unit::DayOfYear),
    part!("DAYOFMONTH", Unit::Day),
    part!("DAYOFWEEK", Unit::DayOfWeek),
    part!("HOUR", Unit::Hour),
    part!("MINUTE", Unit::Minute),
    part!("SECOND", Unit::Second),
    ScalarFunction {
        name: "TIMESTAMPADD",
        usage: "TIMESTAMPADD(unit, number, timepoint)",
        infer: infer_add,
        kernel: add,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "TIMESTAMPDIFF",
        usage: "TIMESTAMPDIFF(unit, timepoint, timepoint)",
        infer: infer_difference,
        kernel: difference,
        is_deterministic: true,
    },
];

fn constant_unit(call: &Call<'_>) -> Result<Unit, String> {
    texts(call, 0)?
        .constant()
        .and_then(Unit::parse)
        .ok_or_else(|| "the unit isn't constant".into())
}

fn unit_of(arg: &Expr) -> Result<Unit, String> {
    literal_text(arg)
        .and_then(Unit::parse)
        .ok_or_else(|| "a constant unit of time is needed, as YEAR or HOUR".into())
}

fn infer_extract(args: &[Expr]) -> Result<Signature, String> {
    let [unit, point] = args else {
        return Err("(UNIT, TIMEPOINT)".into());
    };
    infer_part(unit_of(unit)?, point, vec![unit.data_type.clone()])
}

/// Parts of a day.
fn is_of_day(unit: Unit) -> bool {
    matches!(unit, Unit::Hour | Unit::Minute | Unit::Second | Unit::Millisecond)
}

/// Parts of a second that only timestamps have.
fn is_fine(unit: Unit) -> bool {
    matches!(unit, Unit::Microsecond | Unit::Nanosecond)
}

fn infer_part(unit: Unit, point: &Expr, mut args: Vec<DataType>) -> Result<Signature, String> {
    let fits = match &point.data_type.root {
        TypeRoot::Date => !is_of_day(unit) && !is_fine(unit),
        TypeRoot::Time(_) => is_of_day(unit),
        TypeRoot::Timestamp(..) | TypeRoot::TimestampLtz(..) => true,
        TypeRoot::IntervalYearMonth => matches!(unit, Unit::Year | Unit::Quarter | Unit::Month),
        TypeRoot::IntervalDaySecond => is_of_day(unit) || unit == Unit::Day,
        _ => false,
    };
    if !fits {
        return Err(format!("{} has no part {unit:?}", point.data_type.root));
    }
    args.push(point.data_type.clone().materialized());
    Ok(Signature {
        args,
        result: DataType {
            root: TypeRoot::BigInt,
            nullable: point.data_type.nullable,
        },
    })
}

fn extract(call: &Call<'_>, unit: Unit, index: usize) -> Result<ArrayRef, String> {
    let (Some(point), Some(data_type)) = (call.args.get(index), call.arg_types.get(index)) else {
        return Err("a point of time is needed".into());
    };
    Ok(match &data_type.root {
        TypeRoot::Date => map::<Date32Type>(point, |days| part_of_days(days.into(), unit)),
        TypeRoot::Time(_) => {
            map::<Time32MillisecondType>(point, |millis| part_of_millis(millis.into(), unit))
        }
        TypeRoot::IntervalDaySecond => map::<DurationMillisecondType>(point, |millis| match unit {
            Unit::Day => millis / MILLIS_PER_DAY,
            unit => part_of_millis(millis, unit),
        }),
        TypeRoot::IntervalYearMonth => map::<IntervalYearMonthType>(point, |months| match unit {
            Unit::Year => i64::from(months) / 12,
            Unit::Quarter => i64::from(months) % 12 / 3 + 1,
            _ => i64::from(months) % 12,
        }),
        TypeRoot::Timestamp(precision, _) => part_of_timestamps(point, *precision, unit, Zone::Fixed(0)),
        TypeRoot::TimestampLtz(precision, _) => {
            part_of_timestamps(point, *precision, unit, session_zone(call.env)?)
        }
        other => return Err(format!("{other} has no parts")),
    })
}

fn map<T: ArrowPrimitiveType>(arg: &Value, op: impl Fn(T::Native) -> i64) -> ArrayRef {
    Arc::new(kernel::unary::<T, Int64Type>(arg, op))
}

fn part_of_timestamps(point: &Value, precision: u8, unit: Unit, zone: Zone) -> ArrayRef {
    // `nanos` are those of the millisecond.
    let part = |millis: i64, nanos: i64| {
        let local = match zone {
            Zone::Fixed(0) => millis,
            zone => millis + zone.offset_at(millis.div_euclid(1000)) * 1000,
        };
        match unit {
            Unit::Microsecond => local % 1000 * 1000 + nanos / 1000,
            Unit::Nanosecond => local % 1000 * 1_000_000 + nanos,
            Unit::Epoch => local / 1000,
            unit if is_of_day(unit) => part_of_millis(local, unit),
            unit => part_of_days(local / MILLIS_PER_DAY, unit),
        }
    };
    match time_unit(precision) {
        TimeUnit::Microsecond => map::<TimestampMicrosecondType>(point, |micros| {
            part(micros.div_euclid(1_000), micros.rem_euclid(1_000) * 1_000)
        }),
        TimeUnit::Nanosecond => map::<TimestampNanosecondType>(point, |nanos| {
            part(nanos.div_euclid(1_000_000), nanos.rem_euclid(1_000_000))
        }),
        _ => map::<TimestampMillisecondType>(point, |millis| part(millis, 0)),
    }
}

fn part_of_millis(millis: i64, unit: Unit) -> i64 {
    match unit {
        Unit::Hour => millis % MILLIS_PER_DAY / 3_600_000,
        Unit::Minute => millis % 3_600_000 / 60_000,
        Unit::Second => millis % 60_000 / 1000,
        _ => millis % 1000,
    }
}

fn part_of_days(days: i64, unit: Unit) -> i64 {
    let (year, month, day) = date_of_days(days);
    match unit {
        Unit::Epoch => days * (MILLIS_PER_DAY / 1000),
        Unit::Millennium if year > 0 => (year + 999) / 1000,
        Unit::Millennium => -((999 - year) / 1000),
        Unit::Century if year > 0 => (year + 99) / 100,
        Unit::Century => -((99 - year) / 100),
        Unit::Decade => year.div_euclid(10),
        Unit::Quarter => (month + 2) / 3,
        Unit::Month => month,
        Unit::Day => day,
        // The epoch was a Thursday; Sundays are 1, for ISO Mondays are.
        Unit::DayOfWeek => (days + 4).rem_euclid(7) + 1,
        Unit::IsoDayOfWeek => (days + 3).rem_euclid(7) + 1,
        Unit::DayOfYear => days - days_of_date(year, 1, 1) + 1,
        Unit::Week => iso_week(days).1,
        Unit::IsoYear => iso_week(days).0,
        _ => year,
    }
}

/// ISO's year and week: that of the week's Thursday.
fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - (days + 3).rem_euclid(7) + 3;
    let year = date_of_days(thursday).0;
    (year, (thursday - days_of_date(year, 1, 1)) / 7 + 1)
}

fn infer_add(args: &[Expr]) -> Result<Signature, String> {
    let wanted = || "(UNIT, INT, DATE | TIME | TIMESTAMP)".to_owned();
    let [unit, number, point] = args else {
        return Err(wanted());
    };
    let unit_type = unit.data_type.clone();
    let unit = unit_of(unit)?;
    let root = &point.data_type.root;
    let is_long = unit.months().is_some() || matches!(unit, Unit::Day | Unit::Week);
    let is_known = is_long || is_of_day(unit);
    let is_number = is_integer(&number.data_type.root) || number.data_type.root == TypeRoot::Null;
    if !is_datetime(root) || !is_number || !is_known || (matches!(root, TypeRoot::Time(_)) && is_long) {
        return Err(wanted());
    }
    let moved = match root {
        TypeRoot::Date if !is_long => {
            TypeRoot::Timestamp(if unit == Unit::Millisecond { 3 } else { 0 }, TimeKind::Regular)
        }
        _ => point.data_type.clone().materialized().root,
    };
    Ok(Signature {
        args: vec![
            unit_type,
            DataType {
                root: TypeRoot::BigInt,
                ..number.data_type.clone()
            },
            DataType {
                root: moved.clone(),
                ..point.data_type.clone()
            },
        ],
        result: DataType {
            root: moved,
            nullable: any_nullable(args),
        },
    })
}

fn add(call: &Call<'_>) -> Result<ArrayRef, String> {
    let unit = constant_unit(call)?;
    let [_, number, point] = call.args else {
        return Err("three arguments are needed".into());
    };
    let root = call
        .arg_types
        .get(2)
        .map_or(&TypeRoot::Null, |data_type| &data_type.root);
    match root {
        TypeRoot::Date => {
            let moved =
                kernel::try_binary::<Date32Type, Int64Type, Date32Type>(point, number, |days, number| {
                    let moved = match unit.months() {
                        Some(months) => number
                            .checked_mul(months)
                            .map(|months| add_months(days.into(), months)),
                        None => number
                            .checked_mul(if unit == Unit::Week { 7 } else { 1 })
                            .and_then(|number| number.checked_add(days.into())),
                    };
                    let moved = moved.and_then(|days| i32::try_from(days).ok());
                    moved.map(Some).ok_or_else(|| too_far(number, unit))
                })?;
            Ok(Arc::new(moved))
        }
        TypeRoot::Time(_) => {
            type T = Time32MillisecondType;
            let moved = kernel::binary::<T, Int64Type, T>(point, number, |millis, number| {
                let change = number.wrapping_mul(unit.millis().unwrap_or(0)) % MILLIS_PER_DAY;
                (i64::from(millis) + change).rem_euclid(MILLIS_PER_DAY) as i32
            });
            Ok(Arc::new(moved))
        }
        TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _) => {
            match time_unit(*precision) {
                TimeUnit::Microsecond => moved::<TimestampMicrosecondType>(point, number, unit, 1_000),
                TimeUnit::Nanosecond => moved::<TimestampNanosecondType>(point, number, unit, 1_000_000),
                _ => moved::<TimestampMillisecondType>(point, number, unit, 1),
            }
        }
        other => Err(format!("{other} is no point of time")),
    }
}

fn too_far(number: i64, unit: Unit) -> String {
    format!("{number} times {unit:?} is beyond what the type can hold")
}

fn moved<T: ArrowPrimitiveType<Native = i64>>(
    point: &Value,
    number: &Value,
    unit: Unit,
    per_milli: i64,
) -> Result<ArrayRef, String> {
    let per_day = MILLIS_PER_DAY * per_milli;
    let length = match unit {
        Unit::Week => Some(7 * per_day),
        unit => unit.millis().map(|millis| millis * per_milli),
    };
    let moved: PrimitiveArray<T> = kernel::try_binary::<T, Int64Type, T>(point, number, |time, number| {
        let moved = match (unit.months(), length) {
            (Some(months), _) => number
                .checked_mul(months)
                .map(|months| add_months(time.div_euclid(per_day), months))
                .and_then(|days| days.checked_mul(per_day)?.checked_add(time.rem_euclid(per_day))),
            (None, Some(length)) => number
                .checked_mul(length)
                .and_then(|change| time.checked_add(change)),
            (None, None) => None,
        };
        moved.map(Some).ok_or_else(|| too_far(number, unit))
    })?;
    let data_type = point.array().as_primitive::<T>().data_type().clone();
    Ok(Arc::new(moved.with_data_type(data_type)))
}

fn infer_difference(args: &[Expr]) -> Result<Signature, String> {
    let wanted = || "(UNIT, DATE | TIMESTAMP, DATE | TIMESTAMP)".to_owned();
    let [unit, from, to] = args else {
        return Err(wanted());
    };
    let known = unit_of(unit)?;
    let measures = known.months().is_some() || is_of_day(known) || matches!(known, Unit::Day | Unit::Week);
    if !measures {
        return Err(wanted());
    }
    let millis = |arg: &Expr| {
        let root = match &arg.data_type.root {
            TypeRoot::TimestampLtz(..) => TypeRoot::TimestampLtz(3, TimeKind::Regular),
            TypeRoot::Date => TypeRoot::Date,
            TypeRoot::Timestamp(..) | TypeRoot::Null => TypeRoot::Timestamp(3, TimeKind::Regular),
            _ => return Err(wanted()),
        };
        Ok(DataType {
            root,
            ..arg.data_type.clone()
        })
    };
    Ok(Signature {
        args: vec![unit.data_type.clone(), millis(from)?, millis(to)?],
        result: DataType {
            root: TypeRoot::Int,
            nullable: any_nullable(args),
        },
    })
}

/// Milliseconds of dates and timestamps.
fn as_millis(arg: &Value) -> Result<Value, String> {
    let array = match arg.array().data_type() {
        ArrowType::Date32 => map::<Date32Type>(arg, |days| i64::from(days) * MILLIS_PER_DAY),
        _ => cast(arg.array(), &ArrowType::Int64).map_err(|error| error.to_string())?,
    };
    Ok(match arg {
        Value::Array(_) => Value::Array(array),
        Value::Scalar(_) => Value::Scalar(array),
    })
}

fn difference(call: &Call<'_>) -> Result<ArrayRef, String> {
    let unit = constant_unit(call)?;
    let [_, from, to] = call.args else {
        return Err("three arguments are needed".into());
    };
    let distance = |from: i64, to: i64| match (unit.months(), unit.millis()) {
        (Some(months), _) => months_between(to, from) / months,
        (None, Some(length)) => to.wrapping_sub(from) / length,
        (None, None) => to.wrapping_sub(from) / (7 * MILLIS_PER_DAY),
    };
    let values =
        kernel::binary::<Int64Type, Int64Type, Int32Type>(&as_millis(from)?, &as_millis(to)?, |from, to| {
            distance(from, to) as i32
        });
    Ok(Arc::new(values))
}

/// Whole months from the second to the first.
fn months_between(later: i64, earlier: i64) -> i64 {
    let day = |millis: i64| {
        (
            millis.div_euclid(MILLIS_PER_DAY),
            millis.rem_euclid(MILLIS_PER_DAY),
        )
    };
    let ((days, time), (other_days, other_time)) = (day(later), day(earlier));
    let months = month_distance(days, other_days);
    let incomplete = time < other_time && add_months(other_days, months) == days;
    months - i64::from(incomplete)
}

fn month_distance(days: i64, other: i64) -> i64 {
    if days < other {
        return -month_distance(other, days);
    }
    let ((year, month, _), (other_year, other_month, _)) = (date_of_days(days), date_of_days(other));
    let months = (year - other_year) * 12 + month - other_month;
    if add_months(other, months) > days {
        months - 1
    } else {
        months
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::{date, int, text, timestamp};

    #[test]
    fn parts_before_the_epoch_are_java_remainders() {
        let t = timestamp("1969-12-31 00:00:00.001", 3);
        check(&[
            ("YEAR", std::slice::from_ref(&t), "1970"),
            ("WEEK", std::slice::from_ref(&t), "1"),
            ("DAYOFWEEK", std::slice::from_ref(&t), "5"),
            ("HOUR", std::slice::from_ref(&t), "-23"),
            ("MINUTE", std::slice::from_ref(&t), "-59"),
            ("EXTRACT", &[text("MILLISECOND"), t.clone()], "-999"),
            ("EXTRACT", &[text("MICROSECOND"), t.clone()], "-999000"),
            ("EXTRACT", &[text("NANOSECOND"), t.clone()], "-999000000"),
            ("EXTRACT", &[text("EPOCH"), t.clone()], "-86399"),
        ]);
    }

    #[test]
    fn parts_of_dates() {
        let day = |unit: &str, of: &str, expected: &str| {
            check(&[("EXTRACT", &[text(unit), date(of)], expected)]);
        };
        day("WEEK", "2000-01-01", "52");
        day("DOW", "2000-01-01", "7");
        day("ISODOW", "2000-01-01", "6");
        day("DOY", "1969-12-31", "365");
        day("CENTURY", "2000-12-31", "20");
        day("MILLENNIUM", "2001-01-01", "3");
        day("QUARTER", "2024-02-29", "1");
        day("EPOCH", "1969-12-31", "-86400");
        day("HOUR", "2024-02-29", "error: DATE has no part Hour");
    }

    #[test]
    fn distances_are_whole_units() {
        let t = timestamp("2024-02-29 23:59:59.123", 3);
        let diff = |unit: &str, from: &str, to: thalweg_plan::Expr, expected: &str| {
            check(&[("TIMESTAMPDIFF", &[text(unit), timestamp(from, 3), to], expected)]);
        };
        diff("DAY", "2024-01-01 00:00:00", t.clone(), "59");
        diff("MONTH", "2024-01-31 00:00:00", t.clone(), "1");
        diff(
            "MONTH",
            "2024-01-31 00:00:00",
            timestamp("1969-12-31 00:00:00.001", 3),
            "-649",
        );
        diff(
            "MONTH",
            "2024-01-31 00:00:00",
            timestamp("2000-01-01 12:30:00", 3),
            "-288",
        );
        diff("SECOND", "2024-03-01 00:00:00", t, "0");
        diff("SQL_TSI_DAY", "2024-03-01 12:00:00", date("2024-03-02"), "0");
        check(&[
            (
                "TIMESTAMPADD",
                &[text("WEEK"), int(1), date("2024-02-29")],
                "2024-03-07",
            ),
            (
                "TIMESTAMPADD",
                &[text("MONTH"), int(1), date("2024-01-31")],
                "2024-02-29",
            ),
            (
                "TIMESTAMPADD",
                &[text("HOUR"), int(-1), timestamp("2024-03-01 00:00:00.5", 3)],
                "2024-02-29 23:00:00.500",
            ),
        ]);
    }
}
