//! Texts as values, in Flink's lenient forms.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use thalweg_formats::text;
use thalweg_plan::TypeRoot;
use thalweg_plan::data_type::time_unit;

use super::print::{Fit, bytes_of};
use super::{Apply, calendar, tried};
use crate::registry::EvaluationEnv;
use crate::zone::Zone;

/// The most digits that Flink keeps in a Java long.
const LONG_DIGITS: usize = 18;

/// A cast of texts. `None`: there is none.
pub(super) fn compile(to: &TypeRoot, is_try: bool, env: &EvaluationEnv) -> Option<Result<Apply, String>> {
    Some(Ok(match *to {
        TypeRoot::Boolean => Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
            let texts = array.as_string::<i32>();
            let values = texts.iter().map(|text| match text {
                None => Ok(None),
                Some(text) => tried(parse_boolean(text).map(Some), is_try),
            });
            Ok(Arc::new(values.collect::<Result<BooleanArray, String>>()?))
        }),
        TypeRoot::TinyInt => numbers::<Int8Type>(is_try, narrow),
        TypeRoot::SmallInt => numbers::<Int16Type>(is_try, narrow),
        TypeRoot::Int => numbers::<Int32Type>(is_try, narrow),
        TypeRoot::BigInt => numbers::<Int64Type>(is_try, |text| parse_long(trimmed(text), i64::MIN)),
        TypeRoot::Float => numbers::<Float32Type>(is_try, |text| {
            text::parse_float(text.as_bytes()).ok_or_else(|| not_a_float(text))
        }),
        TypeRoot::Double => numbers::<Float64Type>(is_try, |text| {
            text::parse_double(text.as_bytes()).ok_or_else(|| not_a_float(text))
        }),
        TypeRoot::Decimal { precision, scale } => Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
            let parse = |text: &str| parse_decimal(text, precision, scale);
            let values = parsed::<Decimal128Type>(array, is_try, parse)?;
            let values = values.with_precision_and_scale(precision, scale as i8);
            Ok(Arc::new(values.map_err(|error| error.to_string())?))
        }),
        TypeRoot::Date => numbers::<Date32Type>(is_try, parse_date),
        TypeRoot::Time(_) => numbers::<Time32MillisecondType>(is_try, parse_time),
        TypeRoot::Timestamp(precision, _) => timestamps(precision, None, is_try),
        TypeRoot::TimestampLtz(precision, _) => match super::session_zone(env) {
            Ok(zone) => timestamps(precision, Some(zone), is_try),
            Err(error) => return Some(Err(error)),
        },
        TypeRoot::Binary(_) | TypeRoot::VarBinary(_) => {
            let fit = Fit::of(to);
            Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
                Ok(Arc::new(fit.bytes(&bytes_of(array.as_string::<i32>()))))
            })
        }
        _ => return None,
    }))
}

fn parsed<O: ArrowPrimitiveType>(
    array: &ArrayRef,
    is_try: bool,
    parse: impl Fn(&str) -> Result<O::Native, String>,
) -> Result<PrimitiveArray<O>, String> {
    let texts = array.as_string::<i32>();
    let mut out = PrimitiveArray::<O>::builder(texts.len());
    for text in texts {
        let value = match text {
            None => None,
            Some(text) => tried(parse(text).map(Some), is_try)?,
        };
        out.append_option(value);
    }
    Ok(out.finish())
}

fn numbers<O: ArrowPrimitiveType>(
    is_try: bool,
    parse: impl Fn(&str) -> Result<O::Native, String> + Send + Sync + 'static,
) -> Apply {
    Box::new(move |array: &ArrayRef, _: &EvaluationEnv| Ok(Arc::new(parsed::<O>(array, is_try, &parse)?)))
}

/// Without spaces at both ends; nothing else is taken away.
fn trimmed(text: &str) -> &str {
    text.trim_matches(' ')
}

/// Spaces are not taken away.
fn parse_boolean(text: &str) -> Result<bool, String> {
    let is_one_of = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match text {
        _ if is_one_of(&["t", "true", "y", "yes", "1"]) => Ok(true),
        _ if is_one_of(&["f", "false", "n", "no", "0"]) => Ok(false),
        _ => Err(format!("Cannot parse '{text}' as BOOLEAN.")),
    }
}

fn number_error(text: &str, reason: &str) -> String {
    format!("For input string: '{text}'. {reason}")
}

fn narrow<T: TryFrom<i64>>(text: &str) -> Result<T, String> {
    let text = trimmed(text);
    let value = parse_long(text, i32::MIN.into())?;
    T::try_from(value).map_err(|_| number_error(text, "Overflow."))
}

/// A whole number not below `least` and not above its opposite; digits behind a point are left out.
fn parse_long(text: &str, least: i64) -> Result<i64, String> {
    let failed = |reason| number_error(text, reason);
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes {
        [] => return Err(failed("Input is empty.")),
        [b'+' | b'-'] => return Err(failed("Input has only positive or negative symbol.")),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let end = digits
        .iter()
        .position(|byte| *byte == b'.')
        .unwrap_or(digits.len());
    let mut value: i64 = 0;
    for byte in &digits[..end] {
        if !byte.is_ascii_digit() {
            return Err(failed("Invalid character found."));
        }
        // Down from zero, since there is one more below than above.
        let next = value
            .checked_mul(10)
            .and_then(|value| value.checked_sub(i64::from(byte - b'0')));
        value = next
            .filter(|next| *next >= least)
            .ok_or_else(|| failed("Overflow."))?;
    }
    if digits.iter().skip(end + 1).any(|byte| !byte.is_ascii_digit()) {
        return Err(failed("Invalid character found."));
    }
    match negative {
        true => Ok(value),
        false if value == least => Err(failed("Overflow.")),
        false => Ok(-value),
    }
}

fn not_a_float(text: &str) -> String {
    match text.trim() {
        "" => "empty String".to_owned(),
        text => format!("For input string: \"{text}\""),
    }
}

/// As `BigDecimal`'s constructor says it.
fn not_a_decimal(text: &str) -> String {
    let is_allowed =
        |character: char| character.is_ascii_digit() || matches!(character, '.' | 'e' | 'E' | '+' | '-');
    match text
        .trim_matches(is_space)
        .chars()
        .find(|character| !is_allowed(*character))
    {
        Some(character) => format!(
            "Character {character} is neither a decimal digit number, decimal point, nor \"e\" notation exponential mark."
        ),
        None => number_error(text, "Invalid number."),
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\n' | '\t')
}

/// An unscaled value at the scale, rounded half up.
fn parse_decimal(text: &str, precision: u8, scale: u8) -> Result<i128, String> {
    let text = trimmed(text);
    let overflow = || number_error(text, "Overflow.");
    if usize::from(precision) <= LONG_DIGITS && text.len() <= LONG_DIGITS {
        return short_decimal(text.as_bytes(), precision, scale)
            .map(i128::from)
            .ok_or_else(overflow);
    }
    match text::parse_decimal(text.trim_matches(is_space).as_bytes(), precision, scale) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(overflow()),
        Err(_) => Err(not_a_decimal(text)),
    }
}

/// How Flink reads what is short: one character that is no digit ends the number, as if it weren't there, if nothing but spaces comes behind it.
fn short_decimal(text: &[u8], precision: u8, scale: u8) -> Option<i64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\t');
    let begin = text.iter().position(|byte| !is_space(byte))?;
    let mut rest = &text[begin..];
    let negative = rest[0] == b'-';
    if matches!(rest[0], b'-' | b'+') {
        rest = &rest[1..];
        if rest.is_empty() {
            return None;
        }
    }
    let (mut value, mut digits, mut point): (i64, i32, Option<i32>) = (0, 0, None);
    let mut last = 0;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        last = *byte;
        match byte {
            b'0'..=b'9' => {
                value = value * 10 + i64::from(byte - b'0');
                digits += 1;
            }
            b'.' if point.is_some() => return None,
            b'.' => point = Some(digits),
            _ => break,
        }
    }
    let mut exponent = match (last, rest) {
        (b'e' | b'E', [_, ..]) => short_exponent(&mut rest)?,
        _ => 0,
    };
    exponent -= digits - point.unwrap_or(digits);
    if !rest.iter().all(is_space) {
        return None;
    }
    let change = exponent + i32::from(scale);
    if digits + change > i32::from(precision) {
        return None;
    }
    let value = match change {
        0.. => value.wrapping_mul(10_i64.checked_pow(change as u32)?),
        _ => match 10_i64.checked_pow(change.unsigned_abs()) {
            Some(power) => (value + power / 2) / power,
            None => 0,
        },
    };
    Some(if negative { -value } else { value })
}

fn short_exponent(rest: &mut &[u8]) -> Option<i32> {
    /// More makes no difference.
    const LARGEST: i32 = 40;
    let negative = rest[0] == b'-';
    if matches!(rest[0], b'-' | b'+') {
        *rest = &rest[1..];
        if rest.is_empty() {
            return None;
        }
    }
    let mut exponent = 0;
    while let [byte, behind @ ..] = *rest {
        *rest = behind;
        match byte {
            b'0'..=b'9' if exponent < LARGEST => exponent = exponent * 10 + i32::from(byte - b'0'),
            b'0'..=b'9' => {}
            _ => break,
        }
    }
    Some(if negative { -exponent } else { exponent })
}

/// A number of digits alone, with white space around it.
fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse::<i32>().ok().map(i64::from)).flatten()
}

/// "2024-02-29", "2024-2", "2024", with anything behind a space.
pub(crate) fn parse_date(text: &str) -> Result<i32, String> {
    let failed = || format!("For input string: '{text}'.");
    lenient_date(text)
        .and_then(|days| i32::try_from(days).ok())
        .ok_or_else(failed)
}

fn lenient_date(text: &str) -> Option<i64> {
    let date = match text.find(' ') {
        Some(space) if space > 0 => &text[..space],
        _ => text,
    };
    let mut parts = date.splitn(3, '-');
    let year = whole(parts.next()?)?;
    let month = parts.next().map_or(Some(1), whole)?;
    let day = parts.next().map_or(Some(1), whole)?;
    let is_date = (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=calendar::days_in_month(year, month)).contains(&day);
    is_date.then(|| calendar::days_of_date(year, month, day))
}

/// "12", "12:30", "12:30:15.5", and "+01:00" behind it.
pub(crate) fn parse_time(text: &str) -> Result<i32, String> {
    let time = lenient_time(text).ok_or_else(|| format!("For input string: '{text}'."))?;
    time.ok_or_else(|| {
        format!(
            "Invalid time format: '{text}'. Expected format: HH:mm:ss[.fff] where HH is 00-23, mm is 00-59, ss is 00-59"
        )
    })
}

/// The outer `None`: it is no time; the inner: the clock has no such time.
fn lenient_time(text: &str) -> Option<Option<i32>> {
    let (zone, sign) = match text.find('-') {
        Some(at) => (Some(at), -1),
        None => (text.find('+'), 1),
    };
    let (clock, zone) = text.split_at(zone.unwrap_or(text.len()));
    let (zone_hour, zone_minute) = match zone.get(1..) {
        None => (0, 0),
        Some(zone) => match zone.split_once(':') {
            None => (whole(zone)?, 0),
            Some((hour, minute)) => (whole(hour)?, whole(minute)?),
        },
    };
    let mut parts = clock.splitn(3, ':');
    let hour = whole(parts.next()?)?;
    let minute = parts.next().map_or(Some(0), whole)?;
    let (second, millis) = match parts.next() {
        None => (0, 0),
        Some(second) => match second.split_once('.') {
            None => (whole(second)?, 0),
            Some((second, fraction)) => (whole(second)?, fraction_millis(fraction.trim())),
        },
    };
    let on_the_clock = hour < 24 && minute < 60 && second < 60;
    let (hour, minute) = (hour + sign * zone_hour, minute + sign * zone_minute);
    Some(on_the_clock.then_some((hour * 3_600_000 + minute * 60_000 + second * 1_000 + millis) as i32))
}

/// Milliseconds, rounded half up by the fourth digit; what is no digit counts as 0.
fn fraction_millis(fraction: &str) -> i64 {
    let digit = |position: usize| {
        fraction.as_bytes().get(position).map_or(0, |byte| match byte {
            b'0'..=b'9' => i64::from(byte - b'0'),
            _ => 0,
        })
    };
    digit(0) * 100
        + digit(1) * 10
        + digit(2)
        + i64::from(fraction.as_bytes().get(3).is_some_and(|byte| *byte >= b'5'))
}

fn timestamps(precision: u8, zone: Option<Zone>, is_try: bool) -> Apply {
    let parse = move |text: &str| {
        let (local, nanos) = parse_timestamp(text)?;
        let seconds = zone.map_or(local, |zone| zone.instant_of(local));
        in_unit(seconds, nanos, precision)
            .ok_or_else(|| format!("{text} is beyond what TIMESTAMP({precision}) can hold"))
    };
    match (time_unit(precision), zone) {
        (TimeUnit::Microsecond, zone) => instants::<TimestampMicrosecondType>(is_try, zone, parse),
        (TimeUnit::Nanosecond, zone) => instants::<TimestampNanosecondType>(is_try, zone, parse),
        (_, zone) => instants::<TimestampMillisecondType>(is_try, zone, parse),
    }
}

fn instants<O>(
    is_try: bool,
    zone: Option<Zone>,
    parse: impl Fn(&str) -> Result<i64, String> + Send + Sync + 'static,
) -> Apply
where
    O: arrow::datatypes::ArrowTimestampType,
{
    Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
        let values = parsed::<O>(array, is_try, &parse)?;
        Ok(Arc::new(values.with_timezone_opt(zone.map(|_| "UTC"))))
    })
}

/// A time in the unit of a precision, without what is below the precision.
pub(crate) fn in_unit(seconds: i64, nanos: u32, precision: u8) -> Option<i64> {
    let kept = 10_u32.pow(9 - u32::from(precision.min(9)));
    let nanos = i64::from(nanos / kept * kept);
    let per_second = match time_unit(precision) {
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
        _ => 1_000,
    };
    let value =
        i128::from(seconds) * i128::from(per_second) + i128::from(nanos / (1_000_000_000 / per_second));
    i64::try_from(value).ok()
}

/// "2024-2-29", "2024-02-29 1:02:03.4": local seconds since the epoch and nanoseconds.
pub(crate) fn parse_timestamp(text: &str) -> Result<(i64, u32), String> {
    let mut reader = Reader {
        text: text.as_bytes(),
        at: 0,
    };
    let found = reader.timestamp();
    let failed = |at: usize, what: &str| format!("Text '{text}' could not be parsed{what} at index {at}");
    match found {
        None => Err(failed(reader.at, "")),
        Some(_) if reader.at < text.len() => Err(failed(reader.at, ", unparsed text found")),
        Some((date, clock)) => {
            let date = date.ok_or_else(|| failed(0, ": there is no such day"))?;
            let (second, nanos) = clock.unwrap_or((0, 0));
            Ok((date * 86_400 + second, nanos))
        }
    }
}

/// Reads `yyyy-[MM][M]-[dd][d]`, then ` [HH][H]:[mm][m]:[ss][s]` with a fraction if all of it is there.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// The day, if it exists, and second and nanosecond of the day.
type DayAndClock = (Option<i64>, Option<(i64, u32)>);

impl Reader<'_> {
    fn byte(&mut self, wanted: u8) -> Option<()> {
        (self.text.get(self.at) == Some(&wanted)).then(|| self.at += 1)
    }

    fn digits(&mut self, most: usize) -> Option<i64> {
        let digits = self.text[self.at..]
            .iter()
            .take(most)
            .take_while(|byte| byte.is_ascii_digit());
        let (count, value) = digits.fold((0, 0), |(count, value), byte| {
            (count + 1, value * 10 + i64::from(byte - b'0'))
        });
        self.at += count;
        (count > 0).then_some(value)
    }

    fn timestamp(&mut self) -> Option<DayAndClock> {
        let begin = self.at;
        let year = self.digits(9)?;
        if self.at - begin != 4 {
            self.at = begin;
            return None;
        }
        self.byte(b'-')?;
        let month = self.digits(2)?;
        self.byte(b'-')?;
        let day = self.digits(2)?;
        let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && year > 0;
        // A day behind its month's end is the end.
        let mut date = is_date.then(|| {
            let day = day.min(calendar::days_in_month(year, month));
            calendar::days_of_date(year, month, day)
        });
        let behind_date = self.at;
        let clock = self.clock();
        if clock.is_none() {
            self.at = behind_date;
        }
        let clock = match clock {
            Some((24, 0, 0, 0)) => {
                date = date.map(|date| date + 1);
                Some((0, 0))
            }
            Some((hour, minute, second, _)) if hour > 23 || minute > 59 || second > 59 => {
                date = None;
                None
            }
            Some((hour, minute, second, nanos)) => Some((hour * 3600 + minute * 60 + second, nanos)),
            None => None,
        };
        Some((date, clock))
    }

    fn clock(&mut self) -> Option<(i64, i64, i64, u32)> {
        self.byte(b' ')?;
        let hour = self.digits(2)?;
        self.byte(b':')?;
        let minute = self.digits(2)?;
        self.byte(b':')?;
        let second = self.digits(2)?;
        let mut nanos = 0;
        if self.byte(b'.').is_some() {
            let begin = self.at;
            let fraction = self.digits(9).unwrap_or(0);
            nanos = fraction as u32 * 10_u32.pow(9 - (self.at - begin) as u32);
        }
        Some((hour, minute, second, nanos))
    }
}
