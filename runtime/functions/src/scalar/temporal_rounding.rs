//! FLOOR and CEIL of points of time TO a unit.
//!
//! Units below a day are cut from the number; months and larger ones by the calendar, of the day that Flink's division by
//! milliseconds, which goes towards zero, gives.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{
    Date32Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use thalweg_plan::data_type::time_unit;
use thalweg_plan::{Expr, TypeRoot};

use super::rounding::Mode;
use super::support::{literal_text, texts};
use super::units::{MILLIS_PER_DAY, Unit};
use crate::casts::calendar::{date_of_days, days_of_date};
use crate::casts::session_zone;
use crate::common_type::is_datetime;
use crate::kernel;
use crate::registry::{Call, Signature, Value};
use crate::zone::Zone;

/// The point of time, then the unit.
pub(super) fn infer(args: &[Expr]) -> Result<Signature, String> {
    let wanted = || "(NUMERIC) or (TIMESTAMP | DATE | TIME TO unit)".to_owned();
    let [point, unit] = args else {
        return Err(wanted());
    };
    let root = &point.data_type.root;
    let known = literal_text(unit)
        .and_then(Unit::parse)
        .filter(|unit| unit.rounds());
    if !is_datetime(root) || known.is_none() {
        return Err(wanted());
    }
    Ok(Signature {
        args: vec![point.data_type.clone().materialized(), unit.data_type.clone()],
        result: point.data_type.clone().materialized(),
    })
}

/// Rounds a point of time.
pub(super) fn round(call: &Call<'_>, mode: Mode) -> Result<ArrayRef, String> {
    let unit = texts(call, 1)?
        .constant()
        .and_then(Unit::parse)
        .ok_or("the unit isn't constant")?;
    let up = mode == Mode::Ceiling;
    let [point, ..] = call.args else {
        return Err("a point of time is needed".into());
    };
    let root = call
        .arg_types
        .first()
        .map_or(&TypeRoot::Null, |data_type| &data_type.root);
    match root {
        TypeRoot::Date => {
            let rounded = kernel::unary::<Date32Type, Date32Type>(point, |days| match unit.millis() {
                Some(_) => days,
                None => round_days(days.into(), unit, up) as i32,
            });
            Ok(Arc::new(rounded))
        }
        TypeRoot::Time(_) => {
            let rounded = kernel::unary::<Time32MillisecondType, Time32MillisecondType>(point, |millis| {
                match unit.millis() {
                    Some(unit) => cut(millis.into(), unit, up) as i32,
                    None => millis,
                }
            });
            Ok(Arc::new(rounded))
        }
        TypeRoot::Timestamp(precision, _) => timestamps(point, *precision, unit, up, Zone::Fixed(0)),
        TypeRoot::TimestampLtz(precision, _) => {
            timestamps(point, *precision, unit, up, session_zone(call.env)?)
        }
        other => Err(format!("{other} is no point of time")),
    }
}

fn timestamps(point: &Value, precision: u8, unit: Unit, up: bool, zone: Zone) -> Result<ArrayRef, String> {
    match time_unit(precision) {
        TimeUnit::Microsecond => rounded::<TimestampMicrosecondType>(point, 1_000, unit, up, zone),
        TimeUnit::Nanosecond => rounded::<TimestampNanosecondType>(point, 1_000_000, unit, up, zone),
        _ => rounded::<TimestampMillisecondType>(point, 1, unit, up, zone),
    }
}

fn rounded<T: ArrowPrimitiveType<Native = i64>>(
    point: &Value,
    per_milli: i64,
    unit: Unit,
    up: bool,
    zone: Zone,
) -> Result<ArrayRef, String> {
    let data_type = point.array().as_primitive::<T>().data_type().clone();
    let values = kernel::unary::<T, T>(point, |value| {
        let millis = value.div_euclid(per_milli);
        let local = match zone {
            Zone::Fixed(0) => millis,
            zone => millis + zone.offset_at(millis.div_euclid(1000)) * 1000,
        };
        let rounded = match unit.millis() {
            Some(unit) => cut(local, unit, up),
            None => round_days(local / MILLIS_PER_DAY, unit, up) * MILLIS_PER_DAY,
        };
        let instant = match zone {
            Zone::Fixed(0) => rounded,
            zone => zone.instant_of(rounded.div_euclid(1000)) * 1000 + rounded.rem_euclid(1000),
        };
        instant.saturating_mul(per_milli)
    });
    Ok(Arc::new(values.with_data_type(data_type)))
}

fn cut(value: i64, unit: i64, up: bool) -> i64 {
    let floor = value - value.rem_euclid(unit);
    if up && floor != value { floor + unit } else { floor }
}

/// The first day of the unit, or of the next one.
fn round_days(days: i64, unit: Unit, up: bool) -> i64 {
    let (year, month, day) = date_of_days(days);
    let is_first = month == 1 && day == 1;
    match unit {
        Unit::Week => {
            // Weeks begin on Sundays; the epoch was a Thursday.
            let since = (days + 4).rem_euclid(7);
            if up && since != 0 {
                days + 7 - since
            } else {
                days - since
            }
        }
        Unit::Month if up && day != 1 => {
            let next = year * 12 + month;
            days_of_date(next.div_euclid(12), next.rem_euclid(12) + 1, 1)
        }
        Unit::Month => days_of_date(year, month, 1),
        Unit::Quarter => {
            let first = (month - 1) / 3 * 3 + 1;
            match up && (month != first || day != 1) {
                true => {
                    let next = year * 12 + first + 2;
                    days_of_date(next.div_euclid(12), next.rem_euclid(12) + 1, 1)
                }
                false => days_of_date(year, first, 1),
            }
        }
        Unit::Year => days_of_date(year + i64::from(up && !is_first), 1, 1),
        Unit::Decade | Unit::Century | Unit::Millennium => {
            let length = match unit {
                Unit::Decade => 10,
                Unit::Century => 100,
                _ => 1000,
            };
            // Centuries and millennia begin with year 1, decades with year 0.
            let first = i64::from(unit != Unit::Decade);
            let start = (year - first).div_euclid(length) * length + first;
            let next = up && (year != start || !is_first);
            days_of_date(start + if next { length } else { 0 }, 1, 1)
        }
        _ => days,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::{date, text, timestamp};

    #[test]
    fn points_of_time_are_cut_to_units() {
        let (t, old) = (
            timestamp("2024-02-29 23:59:59.123", 3),
            timestamp("1969-12-31 00:00:00.001", 3),
        );
        check(&[
            ("FLOOR", &[t.clone(), text("HOUR")], "2024-02-29 23:00:00.000"),
            ("CEIL", &[t.clone(), text("HOUR")], "2024-03-01 00:00:00.000"),
            ("FLOOR", &[t.clone(), text("MONTH")], "2024-02-01 00:00:00.000"),
            ("CEIL", &[t.clone(), text("YEAR")], "2025-01-01 00:00:00.000"),
            ("FLOOR", &[t.clone(), text("WEEK")], "2024-02-25 00:00:00.000"),
            ("FLOOR", &[t, text("QUARTER")], "2024-01-01 00:00:00.000"),
            ("FLOOR", &[old.clone(), text("DAY")], "1969-12-31 00:00:00.000"),
            ("FLOOR", &[old.clone(), text("MONTH")], "1970-01-01 00:00:00.000"),
            ("CEIL", &[old, text("YEAR")], "1970-01-01 00:00:00.000"),
            ("FLOOR", &[date("2024-02-29"), text("MONTH")], "2024-02-01"),
            ("CEIL", &[date("2024-02-29"), text("QUARTER")], "2024-04-01"),
        ]);
    }
}
