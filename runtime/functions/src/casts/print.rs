//! Values as text, texts and bytes to other lengths.
//!
//! Numbers are as Java writes them, a DECIMAL plain, BOOLEAN is TRUE or FALSE, a timestamp has as many digits as its precision; nested values are
//! `[1, NULL]`, `{a=1}`, `(1, x)`. Bytes are UTF-8.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, OffsetSizeTrait, StringArray, StringBuilder,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalYearMonthType, Time32MillisecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use thalweg_formats::text;
use thalweg_plan::data_type::{MAX_LENGTH, time_unit};
use thalweg_plan::{DataType, TypeRoot};

use super::Apply;
use crate::registry::EvaluationEnv;
use crate::zone::Zone;

/// Writes one type's values.
#[derive(Debug)]
enum Printer {
    Null,
    Boolean,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    Decimal(u8),
    Text,
    Bytes,
    Date,
    Time(u8),
    /// The unit, how many digits, and the zone of an instant.
    Timestamp(TimeUnit, u8, Option<Zone>),
    Months,
    Millis,
    List(Box<Printer>),
    Map(Box<Printer>, Box<Printer>),
    Row(Vec<Printer>),
}

/// A cast of a type that is no text to one.
pub(super) fn compile(from: &TypeRoot, to: &TypeRoot, env: &EvaluationEnv) -> Result<Apply, String> {
    let printer = Printer::of(from, env)?;
    let fit = Fit::of(to);
    Ok(Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
        let printed = printed(&printer, array.as_ref())?;
        Ok(Arc::new(match fit.applies() {
            true => fit.texts(&printed),
            false => printed,
        }))
    }))
}

fn printed(printer: &Printer, array: &dyn Array) -> Result<StringArray, String> {
    let mut out = Vec::with_capacity(array.len() * 8);
    let mut ends = Vec::with_capacity(array.len() + 1);
    ends.push(0_i32);
    for row in 0..array.len() {
        if array.is_valid(row) {
            printer.write(array, row, &mut out);
        }
        ends.push(
            i32::try_from(out.len()).map_err(|_| "the texts of one batch have more than 2 GiB".to_owned())?,
        );
    }
    let offsets = OffsetBuffer::new(ends.into());
    StringArray::try_new(offsets, Buffer::from_vec(out), array.nulls().cloned())
        .map_err(|error| error.to_string())
}

impl Printer {
    fn of(root: &TypeRoot, env: &EvaluationEnv) -> Result<Self, String> {
        let of = |data_type: &DataType| Self::of(&data_type.root, env).map(Box::new);
        Ok(match root {
            TypeRoot::Null => Self::Null,
            TypeRoot::Boolean => Self::Boolean,
            TypeRoot::TinyInt => Self::TinyInt,
            TypeRoot::SmallInt => Self::SmallInt,
            TypeRoot::Int => Self::Int,
            TypeRoot::BigInt => Self::BigInt,
            TypeRoot::Float => Self::Float,
            TypeRoot::Double => Self::Double,
            TypeRoot::Decimal { scale, .. } => Self::Decimal(*scale),
            TypeRoot::Char(_) | TypeRoot::VarChar(_) => Self::Text,
            TypeRoot::Binary(_) | TypeRoot::VarBinary(_) => Self::Bytes,
            TypeRoot::Date => Self::Date,
            TypeRoot::Time(precision) => Self::Time(*precision),
            TypeRoot::Timestamp(precision, _) => Self::Timestamp(time_unit(*precision), *precision, None),
            TypeRoot::TimestampLtz(precision, _) => {
                Self::Timestamp(time_unit(*precision), *precision, Some(super::session_zone(env)?))
            }
            TypeRoot::IntervalYearMonth => Self::Months,
            TypeRoot::IntervalDaySecond => Self::Millis,
            TypeRoot::Array(element) => Self::List(of(element)?),
            TypeRoot::Map(key, value) => Self::Map(of(key)?, of(value)?),
            TypeRoot::Multiset(element) => Self::Map(of(element)?, Box::new(Self::Int)),
            TypeRoot::Row(fields) => {
                let fields = fields.iter().map(|field| Self::of(&field.data_type.root, env));
                Self::Row(fields.collect::<Result<_, _>>()?)
            }
        })
    }

    /// Writes a value that is not null.
    fn write(&self, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
        fn value<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
            array.as_primitive::<T>().value(row)
        }
        match self {
            Self::Null => out.extend_from_slice(b"NULL"),
            Self::Boolean => out.extend_from_slice(if array.as_boolean().value(row) {
                b"TRUE"
            } else {
                b"FALSE"
            }),
            Self::TinyInt => text::write_integer(out, value::<Int8Type>(array, row).into()),
            Self::SmallInt => text::write_integer(out, value::<Int16Type>(array, row).into()),
            Self::Int => text::write_integer(out, value::<Int32Type>(array, row).into()),
            Self::BigInt => text::write_integer(out, value::<Int64Type>(array, row)),
            Self::Float => text::write_float(out, value::<Float32Type>(array, row)),
            Self::Double => text::write_double(out, value::<Float64Type>(array, row)),
            Self::Decimal(scale) => {
                text::write_decimal_plain(out, value::<Decimal128Type>(array, row), *scale);
            }
            Self::Text => out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes()),
            Self::Bytes => {
                let bytes = array.as_binary::<i32>().value(row);
                out.extend_from_slice(String::from_utf8_lossy(bytes).as_bytes());
            }
            Self::Date => write_date(out, value::<Date32Type>(array, row).into()),
            Self::Time(precision) => {
                write_time(out, value::<Time32MillisecondType>(array, row).into(), *precision);
            }
            Self::Timestamp(unit, precision, zone) => {
                let (mut seconds, nanos) = timestamp(array, row, *unit);
                seconds += zone.map_or(0, |zone| zone.offset_at(seconds));
                write_timestamp(out, seconds, nanos, *precision);
            }
            Self::Months => write_months(out, value::<IntervalYearMonthType>(array, row)),
            Self::Millis => write_millis(out, value::<DurationMillisecondType>(array, row)),
            Self::List(element) => {
                let list = array.as_list::<i32>();
                let offsets = list.value_offsets();
                write_joined(out, [b"[", b"]"], range(offsets, row), |out, index| {
                    element.write_or_null(list.values().as_ref(), index, out);
                });
            }
            Self::Map(key, element) => {
                let map = array.as_map();
                write_joined(
                    out,
                    [b"{", b"}"],
                    range(map.value_offsets(), row),
                    |out, index| {
                        key.write_or_null(map.keys().as_ref(), index, out);
                        out.push(b'=');
                        element.write_or_null(map.values().as_ref(), index, out);
                    },
                );
            }
            Self::Row(fields) => {
                let columns = array.as_struct().columns();
                write_joined(out, [b"(", b")"], 0..fields.len(), |out, index| {
                    fields[index].write_or_null(columns[index].as_ref(), row, out);
                });
            }
        }
    }

    fn write_or_null(&self, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
        match array.is_null(row) {
            true => out.extend_from_slice(b"NULL"),
            false => self.write(array, row, out),
        }
    }
}

fn range<O: OffsetSizeTrait>(offsets: &[O], row: usize) -> std::ops::Range<usize> {
    offsets[row].as_usize()..offsets[row + 1].as_usize()
}

fn write_joined(
    out: &mut Vec<u8>,
    [open, close]: [&[u8]; 2],
    indices: std::ops::Range<usize>,
    mut write: impl FnMut(&mut Vec<u8>, usize),
) {
    out.extend_from_slice(open);
    let first = indices.start;
    for index in indices {
        if index > first {
            out.extend_from_slice(b", ");
        }
        write(out, index);
    }
    out.extend_from_slice(close);
}

/// Seconds since the epoch and nanoseconds.
pub(crate) fn timestamp(array: &dyn Array, row: usize, unit: TimeUnit) -> (i64, u32) {
    let (value, per_second) = match unit {
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
    (value.div_euclid(per_second), nanos as u32)
}

/// At least so many digits.
fn write_padded(out: &mut Vec<u8>, value: i64, digits: u32) {
    let mut power = 10_i64.pow(digits.saturating_sub(1));
    while power > 1 && value < power {
        out.push(b'0');
        power /= 10;
    }
    text::write_integer(out, value);
}

/// "2024-02-29". A year has four digits, as Flink's; of a larger one the last four.
pub(crate) fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = super::calendar::date_of_days(days);
    write_padded(out, year.rem_euclid(10_000), 4);
    out.push(b'-');
    write_padded(out, month, 2);
    out.push(b'-');
    write_padded(out, day, 2);
}

fn write_clock(out: &mut Vec<u8>, second_of_day: i64) {
    write_padded(out, second_of_day / 3600, 2);
    out.push(b':');
    write_padded(out, second_of_day / 60 % 60, 2);
    out.push(b':');
    write_padded(out, second_of_day % 60, 2);
}

/// "12:30:00", with at most so many digits behind a point: zeros at the end are left out but for the first.
pub(crate) fn write_time(out: &mut Vec<u8>, millis: i64, precision: u8) {
    write_clock(out, millis / 1_000);
    if precision == 0 {
        return;
    }
    out.push(b'.');
    let mut rest = millis % 1_000;
    for _ in 0..precision {
        out.push(b'0' + (rest / 100) as u8);
        rest = rest % 100 * 10;
        if rest == 0 {
            break;
        }
    }
}

/// "2024-02-29 12:30:00.123": as many digits as the precision, more if they are not zero.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, seconds: i64, nanos: u32, precision: u8) {
    write_date(out, seconds.div_euclid(86_400));
    out.push(b' ');
    write_clock(out, seconds.rem_euclid(86_400));
    let (mut fraction, mut digits) = (nanos, 9);
    while digits > u32::from(precision) && fraction % 10 == 0 {
        fraction /= 10;
        digits -= 1;
    }
    if digits > 0 {
        out.push(b'.');
        write_padded(out, fraction.into(), digits);
    }
}

/// "+1-02".
fn write_months(out: &mut Vec<u8>, months: i32) {
    out.push(if months < 0 { b'-' } else { b'+' });
    let months = i64::from(months).abs();
    text::write_integer(out, months / 12);
    out.push(b'-');
    write_padded(out, months % 12, 2);
}

/// "+1 02:03:04.005".
fn write_millis(out: &mut Vec<u8>, millis: i64) {
    out.push(if millis < 0 { b'-' } else { b'+' });
    let millis = millis.unsigned_abs() as i64;
    text::write_integer(out, millis / 86_400_000);
    out.push(b' ');
    write_clock(out, millis / 1_000 % 86_400);
    out.push(b'.');
    write_padded(out, millis % 1_000, 3);
}

/// The length of a CHAR, VARCHAR, BINARY or VARBINARY.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    length: usize,
    pads: bool,
}

impl Fit {
    pub(super) fn of(root: &TypeRoot) -> Self {
        let (length, pads) = match root {
            TypeRoot::Char(length) | TypeRoot::Binary(length) => (*length, true),
            TypeRoot::VarChar(length) | TypeRoot::VarBinary(length) => (*length, false),
            _ => (MAX_LENGTH, false),
        };
        Self {
            length: length as usize,
            pads,
        }
    }

    /// Whether any value changes.
    fn applies(self) -> bool {
        self.length < MAX_LENGTH as usize
    }

    fn text(self, text: &str) -> Cow<'_, str> {
        match text.char_indices().nth(self.length) {
            Some((end, _)) => Cow::Borrowed(&text[..end]),
            None if self.pads => {
                let missing = self.length - text.chars().count();
                match missing {
                    0 => Cow::Borrowed(text),
                    _ => Cow::Owned(format!("{text}{}", " ".repeat(missing))),
                }
            }
            None => Cow::Borrowed(text),
        }
    }

    /// Cut, and padded with spaces.
    fn texts(self, array: &StringArray) -> StringArray {
        let mut out = StringBuilder::with_capacity(array.len(), array.value_data().len());
        for text in array {
            out.append_option(text.map(|text| self.text(text)));
        }
        out.finish()
    }

    /// Cut, and padded with zeros.
    pub(super) fn bytes(self, array: &BinaryArray) -> BinaryArray {
        let mut out = BinaryBuilder::with_capacity(array.len(), array.value_data().len());
        let mut padded = Vec::new();
        for bytes in array {
            let Some(bytes) = bytes else {
                out.append_null();
                continue;
            };
            padded.clear();
            padded.extend_from_slice(&bytes[..bytes.len().min(self.length)]);
            if self.pads {
                padded.resize(self.length, 0);
            }
            out.append_value(&padded);
        }
        out.finish()
    }
}

/// A cast of a text to a text of another length.
pub(super) fn fit_text(from: &TypeRoot, to: &TypeRoot) -> Apply {
    let fit = Fit::of(to);
    let fits = match (from, to) {
        (TypeRoot::Char(p) | TypeRoot::VarChar(p), TypeRoot::VarChar(q)) => p <= q,
        (from, to) => from == to,
    };
    match fits {
        true => Box::new(|array: &ArrayRef, _: &EvaluationEnv| Ok(Arc::clone(array))),
        false => Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
            Ok(Arc::new(fit.texts(array.as_string::<i32>())))
        }),
    }
}

/// A cast of bytes to bytes of another length.
pub(super) fn fit_bytes(from: &TypeRoot, to: &TypeRoot) -> Apply {
    let fit = Fit::of(to);
    let fits = match (from, to) {
        (TypeRoot::Binary(p) | TypeRoot::VarBinary(p), TypeRoot::VarBinary(q)) => p <= q,
        (from, to) => from == to,
    };
    match fits {
        true => Box::new(|array: &ArrayRef, _: &EvaluationEnv| Ok(Arc::clone(array))),
        false => Box::new(move |array: &ArrayRef, _: &EvaluationEnv| {
            Ok(Arc::new(fit.bytes(array.as_binary::<i32>())))
        }),
    }
}

/// Bytes of texts.
pub(super) fn bytes_of(array: &StringArray) -> BinaryArray {
    let nulls: Option<NullBuffer> = array.nulls().cloned();
    BinaryArray::new(array.offsets().clone(), array.values().clone(), nulls)
}
