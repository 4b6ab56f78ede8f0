//! DATE, TIME, TIMESTAMP and TIMESTAMP_LTZ among each other; instants become local times in the session's zone.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, PrimitiveBuilder, Time32MillisecondArray};
use arrow::datatypes::{
    ArrowTimestampType, Date32Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use thalweg_plan::TypeRoot;
use thalweg_plan::data_type::time_unit;

use super::parse::in_unit;
use super::print::timestamp;
use super::{Apply, session_zone};
use crate::registry::EvaluationEnv;
use crate::zone::Zone;

const MILLIS_PER_DAY: i64 = 86_400_000;

/// Where seconds and nanoseconds come from.
enum From {
    Date,
    Time,
    Timestamp(TimeUnit),
}

/// A cast between points of time. `None`: there is none.
pub(super) fn compile(from: &TypeRoot, to: &TypeRoot, env: &EvaluationEnv) -> Option<Result<Apply, String>> {
    use TypeRoot::{Date, Time, Timestamp, TimestampLtz};
    let is_instant = |root: &TypeRoot| matches!(root, TimestampLtz(..));
    let shift = match (is_instant(from), is_instant(to)) {
        (false, true) => session_zone(env).map(Shift::ToInstant),
        (true, false) => session_zone(env).map(Shift::ToLocal),
        _ => Ok(Shift::None),
    };
    let shift = match shift {
        Ok(shift) => shift,
        Err(error) => return Some(Err(error)),
    };
    let source = match from {
        Date => From::Date,
        Time(_) => From::Time,
        Timestamp(precision, _) | TimestampLtz(precision, _) => From::Timestamp(time_unit(*precision)),
        _ => return None,
    };
    Some(Ok(match (from, to) {
        // A time attribute, or more digits in the same unit.
        (Timestamp(p, _), Timestamp(q, _)) | (TimestampLtz(p, _), TimestampLtz(q, _))
            if p <= q && time_unit(*p) == time_unit(*q) =>
        {
            Box::new(|array: &ArrayRef, _: &EvaluationEnv| Ok(Arc::clone(array)))
        }
        (Time(_), Time(_)) => Box::new(|array: &ArrayRef, _: &EvaluationEnv| Ok(Arc::clone(array))),
        (Timestamp(..) | TimestampLtz(..), Date) => to_date(source, shift),
        (Timestamp(..) | TimestampLtz(..), Time(_)) => to_time(source, shift),
        (_, Timestamp(precision, _) | TimestampLtz(precision, _)) => {
            to_timestamp(source, shift, *precision, is_instant(to))
        }
        _ => return None,
    }))
}

/// Between local times and instants.
#[derive(Clone, Copy)]
enum Shift {
    None,
    ToInstant(Zone),
    ToLocal(Zone),
}

impl Shift {
    fn apply(self, seconds: i64) -> i64 {
        match self {
            Self::None => seconds,
            Self::ToInstant(zone) => zone.instant_of(seconds),
            Self::ToLocal(zone) => seconds + zone.offset_at(seconds),
        }
    }
}

impl From {
    fn read(&self, array: &dyn Array, row: usize) -> (i64, u32) {
        match self {
            Self::Date => (
                i64::from(array.as_primitive::<Date32Type>().value(row)) * 86_400,
                0,
            ),
            Self::Time => {
                let millis = array.as_primitive::<Time32MillisecondType>().value(row);
                (
                    i64::from(millis.div_euclid(1_000)),
                    millis.rem_euclid(1_000) as u32 * 1_000_000,
                )
            }
            Self::Timestamp(unit) => timestamp(array, row, *unit),
        }
    }

    /// Milliseconds of a row, behind the shift.
    fn millis(&self, array: &dyn Array, row: usize, shift: Shift) -> i64 {
        let (seconds, nanos) = self.read(array, row);
        shift.apply(seconds) * 1_000 + i64::from(nanos / 1_000_000)
    }
}

/// Without a zone the days before 1970 are cut towards it, as Flink counts.
fn to_date(source: From, shift: Shift) -> Apply {
    Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
        let day = |row: usize| {
            let millis = source.millis(array.as_ref(), row, shift);
            match shift {
                Shift::None => (millis / MILLIS_PER_DAY) as i32,
                _ => millis.div_euclid(MILLIS_PER_DAY) as i32,
            }
        };
        let days: Date32Array = (0..array.len())
            .map(|row| array.is_valid(row).then(|| day(row)))
            .collect();
        Ok(Arc::new(days))
    })
}

/// Without a zone negative before 1970, as Flink's.
fn to_time(source: From, shift: Shift) -> Apply {
    Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
        let time = |row: usize| {
            let millis = source.millis(array.as_ref(), row, shift);
            match shift {
                Shift::None => (millis % MILLIS_PER_DAY) as i32,
                _ => millis.rem_euclid(MILLIS_PER_DAY) as i32,
            }
        };
        let times: Time32MillisecondArray = (0..array.len())
            .map(|row| array.is_valid(row).then(|| time(row)))
            .collect();
        Ok(Arc::new(times))
    })
}

fn to_timestamp(source: From, shift: Shift, precision: u8, is_instant: bool) -> Apply {
    match time_unit(precision) {
        TimeUnit::Microsecond => timestamps::<TimestampMicrosecondType>(source, shift, precision, is_instant),
        TimeUnit::Nanosecond => timestamps::<TimestampNanosecondType>(source, shift, precision, is_instant),
        _ => timestamps::<TimestampMillisecondType>(source, shift, precision, is_instant),
    }
}

fn timestamps<T: ArrowTimestampType>(source: From, shift: Shift, precision: u8, is_instant: bool) -> Apply {
    Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
        let mut out = PrimitiveBuilder::<T>::with_capacity(array.len());
        for row in 0..array.len() {
            if array.is_null(row) {
                out.append_null();
                continue;
            }
            let (seconds, nanos) = source.read(array.as_ref(), row);
            let value = in_unit(shift.apply(seconds), nanos, precision);
            out.append_value(
                value.ok_or_else(|| format!("a time is beyond what TIMESTAMP({precision}) can hold"))?,
            );
        }
        let zone = is_instant.then_some("UTC");
        Ok(Arc::new(out.finish().with_timezone_opt(zone)))
    })
}
