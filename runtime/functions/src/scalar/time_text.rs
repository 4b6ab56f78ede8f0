//! Points of time to texts and back, by patterns.
//!
//! A text that doesn't fit is null, a pattern that isn't one is refused: when the statement is planned if it is constant.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, PrimitiveArray, StringBuilder};
use arrow::datatypes::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use thalweg_formats::text::{Instant, instant_of};
use thalweg_plan::data_type::{TimeKind, time_unit};
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::clock;
use super::date_pattern::{Dialect, Pattern, compiled};
use super::support::{
    DONE, Kind, STRING, Texts, fallible, fixed, literal_int, literal_text, numbers, numbers_of, push, texts,
    write_texts,
};
use super::units::MILLIS_PER_DAY;
use crate::casts::calendar::{days_in_month, days_of_date};
use crate::casts::{parse_date, parse_timestamp, session_zone};
use crate::common_type::{is_character, is_integer, is_numeric};
use crate::registry::{Call, ScalarFunction, Signature, Value};
use crate::zone::Zone;

use Dialect::{Formatter, Simple};
use Kind::{BigInt, Text};

const TIMESTAMP: TypeRoot = TypeRoot::Timestamp(3, TimeKind::Regular);
const INSTANT: TypeRoot = TypeRoot::TimestampLtz(3, TimeKind::Regular);

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "DATE_FORMAT",
        usage: "DATE_FORMAT(timestamp, pattern)",
        infer: infer_date_format,
        kernel: date_format,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "TO_DATE",
        usage: "TO_DATE(string [, pattern])",
        infer: |args| {
            with_pattern(
                fallible(args, &[Text, Text], 1, TypeRoot::Date)?,
                args.get(1),
                Simple,
            )
        },
        kernel: to_date,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "TO_TIMESTAMP",
        usage: "TO_TIMESTAMP(string [, pattern])",
        infer: |args| {
            with_pattern(
                fallible(args, &[Text, Text], 1, TIMESTAMP)?,
                args.get(1),
                Formatter,
            )
        },
        kernel: to_timestamp,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "TO_TIMESTAMP_LTZ",
        usage: "TO_TIMESTAMP_LTZ(number [, precision]), TO_TIMESTAMP_LTZ(string [, pattern [, zone]])",
        infer: infer_to_timestamp_ltz,
        kernel: to_timestamp_ltz,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "FROM_UNIXTIME",
        usage: "FROM_UNIXTIME(seconds [, pattern])",
        infer: |args| with_pattern(fixed(args, &[BigInt, Text], 1, STRING)?, args.get(1), Simple),
        kernel: from_unixtime,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "UNIX_TIMESTAMP",
        usage: "UNIX_TIMESTAMP([string [, pattern]])",
        infer: |args| {
            with_pattern(
                fixed(args, &[Text, Text], 0, TypeRoot::BigInt)?,
                args.get(1),
                Simple,
            )
        },
        kernel: unix_timestamp,
        // Without an argument it is the current time.
        is_deterministic: false,
    },
    ScalarFunction {
        name: "CONVERT_TZ",
        usage: "CONVERT_TZ(string, from zone, to zone)",
        infer: |args| fallible(args, &[Text, Text, Text], 3, STRING),
        kernel: convert_tz,
        is_deterministic: true,
    },
];

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

/// Refuses a constant pattern that is none.
fn with_pattern(signature: Signature, pattern: Option<&Expr>, dialect: Dialect) -> Result<Signature, String> {
    match pattern.and_then(literal_text) {
        Some(pattern) => compiled(pattern, dialect).map(|_| signature),
        None => Ok(signature),
    }
}

/// Patterns by row, looked up only when they change.
struct Patterns<'a> {
    patterns: Option<Texts<'a>>,
    dialect: Dialect,
    last: Option<(&'a str, std::rc::Rc<Pattern>)>,
}

impl<'a> Patterns<'a> {
    /// The argument of that place, or the usual pattern if there is none.
    fn of(call: &'a Call<'_>, place: usize, dialect: Dialect) -> Result<Self, String> {
        Ok(Self {
            patterns: (call.args.len() > place)
                .then(|| texts(call, place))
                .transpose()?,
            dialect,
            last: None,
        })
    }

    fn get(&mut self, row: usize) -> Result<Option<&Pattern>, String> {
        let pattern = match &self.patterns {
            None => DEFAULT_PATTERN,
            Some(patterns) => match patterns.get(row) {
                None => return Ok(None),
                Some(pattern) => pattern,
            },
        };
        if self.last.as_ref().is_none_or(|(known, _)| *known != pattern) {
            self.last = Some((pattern, compiled(pattern, self.dialect)?));
        }
        Ok(self.last.as_ref().map(|(_, pattern)| &**pattern))
    }
}

fn infer_date_format(args: &[Expr]) -> Result<Signature, String> {
    let wanted = || "(TIMESTAMP | STRING, STRING)".to_owned();
    let [point, pattern] = args else {
        return Err(wanted());
    };
    let pattern_type = match &pattern.data_type.root {
        root if is_character(root) => pattern.data_type.clone(),
        TypeRoot::Null => DataType::string(),
        _ => return Err(wanted()),
    };
    let point_type = match &point.data_type.root {
        TypeRoot::Timestamp(..) | TypeRoot::TimestampLtz(..) => point.data_type.clone().materialized(),
        TypeRoot::Null => DataType::nullable(TIMESTAMP),
        root if is_character(root) => point.data_type.clone(),
        _ => return Err(wanted()),
    };
    let is_text = is_character(&point_type.root);
    let signature = Signature {
        result: DataType {
            root: STRING,
            nullable: is_text || point_type.nullable || pattern_type.nullable,
        },
        args: vec![point_type, pattern_type],
    };
    with_pattern(signature, Some(pattern), Formatter)
}

/// Local times by row, in seconds and nanoseconds.
type LocalTimes<'a> = Box<dyn Fn(usize) -> Option<(i64, u32)> + 'a>;

fn local_times<'a>(call: &'a Call<'_>) -> Result<LocalTimes<'a>, String> {
    let (Some(value), Some(data_type)) = (call.args.first(), call.arg_types.first()) else {
        return Err("a point of time is needed".into());
    };
    let (precision, zone) = match data_type.root {
        TypeRoot::Timestamp(precision, _) => (precision, Zone::Fixed(0)),
        TypeRoot::TimestampLtz(precision, _) => (precision, session_zone(call.env)?),
        _ => {
            let input = texts(call, 0)?;
            return Ok(Box::new(move |row| parse_timestamp(input.get(row)?).ok()));
        }
    };
    let unit = time_unit(precision);
    let array = arrow::compute::cast(value.array(), &arrow::datatypes::DataType::Int64)
        .map_err(|error| error.to_string())?;
    let values = PrimitiveArray::<Int64Type>::from(array.to_data());
    Ok(Box::new(move |row| {
        let row = value.index(row);
        let Instant { seconds, nanos } = values
            .is_valid(row)
            .then(|| instant_of(values.value(row), unit))?;
        Some((seconds + zone.offset_at(seconds), nanos))
    }))
}

fn date_format(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (times, mut patterns) = (local_times(call)?, Patterns::of(call, 1, Formatter)?);
    let is_constant = call.args.get(1).is_some_and(Value::is_scalar);
    // The last text, and the time for which it holds: neighbours are often of one day or second.
    let (mut text, mut held) = (String::new(), None);
    write_texts(call.rows, call.rows * 20, |row, out| {
        let (Some((seconds, nanos)), Some(pattern)) = (times(row), patterns.get(row)?) else {
            return Ok(None);
        };
        let period = pattern
            .holds_for()
            .filter(|_| is_constant)
            .map(|length| seconds.div_euclid(length));
        if period.is_none() || period != held {
            text.clear();
            pattern.write(&mut text, seconds, nanos);
            held = period;
        }
        push(out, &text);
        DONE
    })
}

fn to_date(call: &Call<'_>) -> Result<ArrayRef, String> {
    let input = texts(call, 0)?;
    if call.args.len() == 1 {
        return numbers_of::<Date32Type>(call.rows, |row| {
            Ok(input.get(row).and_then(|text| parse_date(text).ok()))
        });
    }
    let mut patterns = Patterns::of(call, 1, Simple)?;
    numbers_of::<Date32Type>(call.rows, |row| {
        let (Some(text), Some(pattern)) = (input.get(row), patterns.get(row)?) else {
            return Ok(None);
        };
        let days = pattern
            .parse(text)
            .map(|(seconds, _)| seconds.div_euclid(MILLIS_PER_DAY / 1000));
        Ok(days.and_then(|days| i32::try_from(days).ok()))
    })
}

/// What `java.sql.Timestamp.valueOf` and `java.sql.Date.valueOf` read: the formatter's second chance.
fn jdbc_timestamp(text: &str) -> Option<(i64, u32)> {
    let text = text.trim();
    let (date, time) = match text.split_once(' ') {
        None => (text, None),
        Some((date, time)) => (date, Some(time.trim())),
    };
    let number = |text: &str, most: usize| {
        let fits = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse::<i64>().ok()).flatten()
    };
    let mut parts = date.split('-');
    let year = parts
        .next()
        .filter(|year| year.len() == 4)
        .and_then(|year| number(year, 4))?;
    let month = number(parts.next()?, 2)?;
    let day = number(parts.next()?, 2)?;
    let is_date = parts.next().is_none() && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || (time.is_none() && day > days_in_month(year, month)) {
        return None;
    }
    // A 31st of a shorter month is one of the next, in a Timestamp.
    let days = days_of_date(year, month, 1) + day - 1;
    let Some(time) = time else {
        return Some((days * (MILLIS_PER_DAY / 1000), 0));
    };
    let (clock, fraction) = match time.split_once('.') {
        None => (time, "0"),
        Some((clock, fraction)) => (clock, fraction),
    };
    let mut parts = clock.split(':');
    let mut part = |limit: i64| number(parts.next()?, 2).filter(|part| *part < limit);
    let (hour, minute, second) = (part(24)?, part(60)?, part(60)?);
    if parts.next().is_some() {
        return None;
    }
    let nanos = number(fraction, 9)? * 10i64.pow(9 - fraction.len() as u32);
    Some((
        days * (MILLIS_PER_DAY / 1000) + hour * 3600 + minute * 60 + second,
        nanos as u32,
    ))
}

/// A local time by a pattern, or without one as CAST reads it.
fn read_time(text: &str, pattern: Option<&Pattern>) -> Option<(i64, u32)> {
    match pattern {
        None => parse_timestamp(text).ok(),
        Some(pattern) => pattern.parse(text).or_else(|| jdbc_timestamp(text)),
    }
}

fn millis_of(seconds: i64, nanos: u32) -> Option<i64> {
    seconds
        .checked_mul(1000)?
        .checked_add(i64::from(nanos / 1_000_000))
}

fn to_timestamp(call: &Call<'_>) -> Result<ArrayRef, String> {
    timestamps(call, &|_| Some(Zone::Fixed(0)))
}

/// The pattern is the second argument, if it is there.
fn timestamps(call: &Call<'_>, zone: &dyn Fn(usize) -> Option<Zone>) -> Result<ArrayRef, String> {
    let input = texts(call, 0)?;
    let mut patterns = (call.args.len() > 1)
        .then(|| Patterns::of(call, 1, Formatter))
        .transpose()?;
    numbers_of::<TimestampMillisecondType>(call.rows, |row| {
        let pattern = match &mut patterns {
            None => None,
            Some(patterns) => match patterns.get(row)? {
                None => return Ok(None),
                pattern => pattern,
            },
        };
        let (Some(text), Some(zone)) = (input.get(row), zone(row)) else {
            return Ok(None);
        };
        let read = read_time(text, pattern);
        Ok(read.and_then(|(seconds, nanos)| millis_of(zone.instant_of(seconds), nanos)))
    })
}

fn infer_to_timestamp_ltz(args: &[Expr]) -> Result<Signature, String> {
    let wanted = || "(NUMERIC [, 0 | 3]) or (STRING [, STRING [, STRING]])".to_owned();
    match args {
        [] => Err(wanted()),
        [text, ..] if is_character(&text.data_type.root) => {
            let signature = fallible(args, &[Text, Text, Text], 1, INSTANT).map_err(|_| wanted())?;
            with_pattern(signature, args.get(1), Formatter)
        }
        [number, precision @ ..] => {
            let root = &number.data_type.root;
            let arg = match root {
                root if is_integer(root) => TypeRoot::BigInt,
                TypeRoot::Null => TypeRoot::BigInt,
                root if is_numeric(root) => TypeRoot::Double,
                _ => return Err(wanted()),
            };
            let mut arg_types = vec![DataType {
                root: arg,
                ..number.data_type.clone()
            }];
            match precision {
                [] => {}
                [precision] if is_integer(&precision.data_type.root) => {
                    if let Some(precision) =
                        literal_int(precision).filter(|precision| ![0, 3].contains(precision))
                    {
                        return Err(format!(
                            "the precision of TO_TIMESTAMP_LTZ is 0 (seconds) or 3 (milliseconds), not {precision}"
                        ));
                    }
                    arg_types.push(DataType {
                        root: TypeRoot::Int,
                        ..precision.data_type.clone()
                    });
                }
                _ => return Err(wanted()),
            }
            Ok(Signature {
                args: arg_types,
                result: DataType::nullable(INSTANT),
            })
        }
    }
}

fn to_timestamp_ltz(call: &Call<'_>) -> Result<ArrayRef, String> {
    let array = match call.arg_types.first().map(|data_type| &data_type.root) {
        Some(TypeRoot::BigInt) => {
            let input = numbers::<Int64Type>(call, 0)?;
            instants(call, |row| input.get(row), i64::checked_mul)?
        }
        Some(TypeRoot::Double) => {
            let input = numbers::<Float64Type>(call, 0)?;
            instants(
                call,
                |row| input.get(row),
                |number, scale| Some((number * scale as f64) as i64),
            )?
        }
        _ => {
            let session = session_zone(call.env)?;
            let zones = (call.args.len() > 2).then(|| texts(call, 2)).transpose()?;
            timestamps(call, &|row| match &zones {
                None => Some(session),
                // As `TimeZone.getTimeZone`: what is no zone is GMT.
                Some(zones) => zones
                    .get(row)
                    .map(|zone| Zone::parse(zone).unwrap_or(Zone::Fixed(0))),
            })?
        }
    };
    let array = PrimitiveArray::<TimestampMillisecondType>::from(array.to_data());
    Ok(Arc::new(array.with_timezone("UTC")))
}

/// Instants of seconds or milliseconds; null beyond what can be.
fn instants<N>(
    call: &Call<'_>,
    number: impl Fn(usize) -> Option<N>,
    scaled: impl Fn(N, i64) -> Option<i64>,
) -> Result<ArrayRef, String> {
    let precisions = (call.args.len() > 1)
        .then(|| numbers::<Int32Type>(call, 1))
        .transpose()?;
    numbers_of::<TimestampMillisecondType>(call.rows, |row| {
        let precision = match &precisions {
            None => Some(3),
            Some(precisions) => precisions.get(row),
        };
        let (Some(number), Some(precision)) = (number(row), precision) else {
            return Ok(None);
        };
        match precision {
            0 => Ok(scaled(number, 1000)),
            3 => Ok(scaled(number, 1)),
            other => Err(format!(
                "the precision is 0 (seconds) or 3 (milliseconds), not {other}"
            )),
        }
    })
}

fn write_local(out: &mut StringBuilder, pattern: &Pattern, instant: i64, zone: Zone) {
    pattern.write(out, instant + zone.offset_at(instant), 0);
}

fn from_unixtime(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut patterns) = (numbers::<Int64Type>(call, 0)?, Patterns::of(call, 1, Simple)?);
    let zone = session_zone(call.env)?;
    write_texts(call.rows, call.rows * 20, |row, out| {
        let (Some(seconds), Some(pattern)) = (input.get(row), patterns.get(row)?) else {
            return Ok(None);
        };
        if seconds.unsigned_abs() > FARTHEST {
            return Err(format!("{seconds} seconds are beyond what a date can be"));
        }
        write_local(out, pattern, seconds, zone);
        DONE
    })
}

/// A thousand million years: calendars are computed without overflow.
const FARTHEST: u64 = 31_556_952_000_000_000;

/// What doesn't fit is the least number, in Flink.
fn unix_timestamp(call: &Call<'_>) -> Result<ArrayRef, String> {
    if call.args.is_empty() {
        let now = clock::statement_time(call).div_euclid(1000);
        return numbers_of::<Int64Type>(1, |_| Ok(Some(now)));
    }
    let (input, mut patterns) = (texts(call, 0)?, Patterns::of(call, 1, Simple)?);
    let zone = session_zone(call.env)?;
    numbers_of::<Int64Type>(call.rows, |row| {
        let (Some(text), Some(pattern)) = (input.get(row), patterns.get(row)?) else {
            return Ok(None);
        };
        let read = pattern.parse(text).map(|(seconds, _)| zone.instant_of(seconds));
        Ok(Some(read.unwrap_or(i64::MIN)))
    })
}

fn convert_tz(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, from, to) = (texts(call, 0)?, texts(call, 1)?, texts(call, 2)?);
    let pattern = compiled(DEFAULT_PATTERN, Simple)?;
    let zone = |name: &str| Zone::parse(name).unwrap_or(Zone::Fixed(0));
    write_texts(call.rows, call.rows * 20, |row, out| {
        let (Some(text), Some(from), Some(to)) = (input.get(row), from.get(row), to.get(row)) else {
            return Ok(None);
        };
        match pattern.parse(text) {
            None => Ok(None),
            Some((seconds, _)) => {
                write_local(out, &pattern, zone(from).instant_of(seconds), zone(to));
                DONE
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::{bigint, int, text, timestamp};

    #[test]
    fn points_of_time_are_written_by_patterns() {
        let t = timestamp("2024-02-29 23:59:59.123", 3);
        check(&[
            (
                "DATE_FORMAT",
                &[t.clone(), text("yyyy-MM-dd HH:mm:ss")],
                "2024-02-29 23:59:59",
            ),
            ("DATE_FORMAT", &[t.clone(), text("hh:mm a")], "11:59 PM"),
            (
                "DATE_FORMAT",
                &[text("2024-02-29 23:59:59"), text("yyyy")],
                "2024",
            ),
            ("DATE_FORMAT", &[text("x"), text("yyyy")], "NULL"),
            (
                "DATE_FORMAT",
                &[t, text("yyyy-bb")],
                "error: 'bb' of the date pattern",
            ),
            // The session is in Berlin.
            ("FROM_UNIXTIME", &[bigint(0), text("yyyy HH")], "1970 01"),
            ("FROM_UNIXTIME", &[bigint(86_400)], "1970-01-02 01:00:00"),
        ]);
    }

    #[test]
    fn texts_are_read_by_patterns() {
        check(&[
            (
                "TO_TIMESTAMP",
                &[text("2024-03-01 10:11:12")],
                "2024-03-01 10:11:12.000",
            ),
            (
                "TO_TIMESTAMP",
                &[text("01/03/2024"), text("dd/MM/yyyy")],
                "2024-03-01 00:00:00.000",
            ),
            (
                "TO_TIMESTAMP",
                &[text("1999-9-10 05:20:10"), text("yyyy-MM-dd HH:mm:ss")],
                "1999-09-10 05:20:10.000",
            ),
            ("TO_TIMESTAMP", &[text("bad")], "NULL"),
            ("TO_DATE", &[text("2024-03-01")], "2024-03-01"),
            ("TO_DATE", &[text("03.01.2024"), text("MM.dd.yyyy")], "2024-03-01"),
            ("UNIX_TIMESTAMP", &[text("2024-03-01 00:00:00")], "1709247600"),
            ("UNIX_TIMESTAMP", &[text("bad")], "-9223372036854775808"),
            (
                "TO_TIMESTAMP_LTZ",
                &[bigint(1000), int(3)],
                "1970-01-01 01:00:01.000",
            ),
            (
                "TO_TIMESTAMP_LTZ",
                &[bigint(100), int(0)],
                "1970-01-01 01:01:40.000",
            ),
            ("TO_TIMESTAMP_LTZ", &[bigint(100), int(6)], "error: not 6"),
            (
                "CONVERT_TZ",
                &[
                    text("1970-01-01 00:00:00"),
                    text("UTC"),
                    text("America/Los_Angeles"),
                ],
                "1969-12-31 16:00:00",
            ),
        ]);
    }
}
