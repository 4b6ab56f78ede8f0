//! Values as Java's `toString` writes them, for output that Flink's users compare.
//!
//! Numbers, text, dates and times follow `java.lang` and `java.time`; a type without a rule here is written as Arrow writes it.

use std::fmt::{Result, Write};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::columns::BytesColumn;

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// `String.hashCode`: Flink assigns splits to subtasks by it.
pub(crate) fn string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// A row's values between `[open, separator, close]`.
pub(crate) fn write_joined(out: &mut String, columns: &[ArrayRef], row: usize, marks: [&str; 3]) -> Result {
    out.write_str(marks[0])?;
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.write_str(marks[1])?;
        }
        write_value(out, column.as_ref(), row)?;
    }
    out.write_str(marks[2])
}

/// One value.
pub(crate) fn write_value(out: &mut String, column: &dyn Array, row: usize) -> Result {
    if column.is_null(row) {
        return out.write_str("null");
    }
    match column.data_type() {
        DataType::Boolean => write!(out, "{}", column.as_boolean().value(row)),
        DataType::Int8 => write!(out, "{}", column.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => write!(out, "{}", column.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => write!(out, "{}", column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => write!(out, "{}", column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => write!(out, "{}", column.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => write!(out, "{}", column.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => write!(out, "{}", column.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => write!(out, "{}", column.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => {
            let value = column.as_primitive::<Float32Type>().value(row);
            write_float(out, f64::from(value), &format!("{:e}", value.abs()))
        }
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            write_float(out, value, &format!("{:e}", value.abs()))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => write_text(out, column, row),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => write_bytes(out, column, row),
        DataType::Date32 => write_date(out, i64::from(column.as_primitive::<Date32Type>().value(row))),
        DataType::Time32(_) | DataType::Time64(_) => write_time(out, time_nanos(column, row)),
        DataType::Timestamp(unit, zone) => {
            let nanos = timestamp_nanos(column, *unit, row);
            write_timestamp(out, nanos, zone.is_some())
        }
        DataType::List(_) => write_elements(out, column.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => write_elements(out, column.as_list::<i64>().value(row).as_ref()),
        DataType::Struct(_) => {
            out.write_str("+I")?;
            write_joined(out, column.as_struct().columns(), row, ["[", ", ", "]"])
        }
        DataType::Map(..) => write_map(out, column, row),
        _ => write_as_arrow(out, column, row),
    }
}

fn write_text(out: &mut String, column: &dyn Array, row: usize) -> Result {
    let text = BytesColumn::of(column)
        .and_then(|column| column.get(row))
        .unwrap_or_default();
    out.write_str(&String::from_utf8_lossy(text))
}

fn write_bytes(out: &mut String, column: &dyn Array, row: usize) -> Result {
    let bytes = BytesColumn::of(column)
        .and_then(|column| column.get(row))
        .unwrap_or_default();
    out.write_char('[')?;
    for (index, byte) in bytes.iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        write!(out, "{separator}{}", *byte as i8)?;
    }
    out.write_char(']')
}

fn write_elements(out: &mut String, elements: &dyn Array) -> Result {
    out.write_char('[')?;
    for index in 0..elements.len() {
        if index > 0 {
            out.write_str(", ")?;
        }
        write_value(out, elements, index)?;
    }
    out.write_char(']')
}

fn write_map(out: &mut String, column: &dyn Array, row: usize) -> Result {
    let entries = column.as_map().value(row);
    out.write_char('{')?;
    for index in 0..entries.len() {
        if index > 0 {
            out.write_str(", ")?;
        }
        write_value(out, entries.column(0).as_ref(), index)?;
        out.write_char('=')?;
        write_value(out, entries.column(1).as_ref(), index)?;
    }
    out.write_char('}')
}

fn write_as_arrow(out: &mut String, column: &dyn Array, row: usize) -> Result {
    let formatter =
        ArrayFormatter::try_new(column, &FormatOptions::default()).map_err(|_| std::fmt::Error)?;
    write!(out, "{}", formatter.value(row))
}

/// `Double.toString`: plain between 10^-3 and 10^7, else `d.dE±n`; `scientific` holds the shortest digits as Rust's `{:e}`
/// writes them for the absolute value.
fn write_float(out: &mut String, value: f64, scientific: &str) -> Result {
    if value.is_nan() {
        return out.write_str("NaN");
    }
    if value.is_sign_negative() {
        out.write_char('-')?;
    }
    if value.is_infinite() {
        return out.write_str("Infinity");
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let digits = mantissa.replace('.', "");
    let exponent = exponent.parse::<i32>().map_err(|_| std::fmt::Error)?;
    let fraction = |digits: &str| {
        if digits.is_empty() {
            "0".to_owned()
        } else {
            digits.to_owned()
        }
    };
    if value == 0.0 {
        return out.write_str("0.0");
    }
    match exponent {
        0..7 => {
            let whole = exponent as usize + 1;
            let padded = format!("{digits:0<whole$}");
            write!(out, "{}.{}", &padded[..whole], fraction(&padded[whole..]))
        }
        -3..0 => write!(out, "0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
        _ => write!(out, "{}.{}E{exponent}", &digits[..1], fraction(&digits[1..])),
    }
}

/// `LocalDate.toString` of days since the epoch, by the civil calendar.
fn write_date(out: &mut String, days: i64) -> Result {
    // days since 0000-03-01 in 400-year eras, so that the leap day ends a year
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    write!(out, "{year:04}-{month:02}-{day:02}")
}

/// `LocalTime.toString`: seconds and fraction only as far as they are not zero.
fn write_time(out: &mut String, nanos_of_day: i64) -> Result {
    let (seconds, nanos) = (nanos_of_day / 1_000_000_000, nanos_of_day % 1_000_000_000);
    write!(out, "{:02}:{:02}", seconds / 3_600, seconds / 60 % 60)?;
    write_seconds(out, seconds % 60, nanos, false)
}

fn write_seconds(out: &mut String, seconds: i64, nanos: i64, always: bool) -> Result {
    if seconds > 0 || nanos > 0 || always {
        write!(out, ":{seconds:02}")?;
    }
    match nanos {
        0 => Ok(()),
        nanos if nanos % 1_000_000 == 0 => write!(out, ".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => write!(out, ".{:06}", nanos / 1_000),
        nanos => write!(out, ".{nanos:09}"),
    }
}

/// `LocalDateTime.toString`, or `Instant.toString` for a timestamp with a zone.
fn write_timestamp(out: &mut String, nanos: i128, instant: bool) -> Result {
    let seconds = nanos.div_euclid(NANOS_PER_SECOND) as i64;
    let fraction = nanos.rem_euclid(NANOS_PER_SECOND) as i64;
    write_date(out, seconds.div_euclid(SECONDS_PER_DAY))?;
    out.write_char('T')?;
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    write!(out, "{:02}:{:02}", of_day / 3_600, of_day / 60 % 60)?;
    write_seconds(out, of_day % 60, fraction, instant)?;
    out.write_str(if instant { "Z" } else { "" })
}

fn timestamp_nanos(column: &dyn Array, unit: TimeUnit, row: usize) -> i128 {
    match unit {
        TimeUnit::Second => {
            i128::from(column.as_primitive::<TimestampSecondType>().value(row)) * NANOS_PER_SECOND
        }
        TimeUnit::Millisecond => {
            i128::from(column.as_primitive::<TimestampMillisecondType>().value(row)) * 1_000_000
        }
        TimeUnit::Microsecond => {
            i128::from(column.as_primitive::<TimestampMicrosecondType>().value(row)) * 1_000
        }
        TimeUnit::Nanosecond => i128::from(column.as_primitive::<TimestampNanosecondType>().value(row)),
    }
}

fn time_nanos(column: &dyn Array, row: usize) -> i64 {
    match column.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            i64::from(column.as_primitive::<Time32SecondType>().value(row)) * 1_000_000_000
        }
        DataType::Time32(_) => {
            i64::from(column.as_primitive::<Time32MillisecondType>().value(row)) * 1_000_000
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            column.as_primitive::<Time64MicrosecondType>().value(row) * 1_000
        }
        _ => column.as_primitive::<Time64NanosecondType>().value(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, Date32Array, Float32Array, Float64Array, Int32Array, ListArray, Time32SecondArray,
        TimestampMicrosecondArray, TimestampMillisecondArray,
    };

    fn texts(column: &dyn Array) -> Vec<String> {
        let text = |row| {
            let mut out = String::new();
            write_value(&mut out, column, row).unwrap();
            out
        };
        (0..column.len()).map(text).collect()
    }

    #[test]
    fn the_hash_of_a_string_is_javas() {
        assert_eq!(
            ["", "a", "topic", "käse€😀"].map(string_hash),
            [0, 97, 110_546_223, -1_469_850_300]
        );
    }

    #[test]
    fn doubles_are_plain_from_a_thousandth_to_ten_million() {
        let column = Float64Array::from(vec![
            1.0,
            0.1,
            -2.5,
            1e7,
            9_999_999.0,
            0.001,
            1.25e-4,
            123.456,
            -0.0,
            1e300,
        ]);
        let expected = "1.0 0.1 -2.5 1.0E7 9999999.0 0.001 1.25E-4 123.456 -0.0 1.0E300";
        assert_eq!(texts(&column), expected.split(' ').collect::<Vec<_>>());
        assert_eq!(
            texts(&Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY])),
            ["NaN", "-Infinity"]
        );
    }

    #[test]
    fn floats_keep_their_own_shortest_digits() {
        assert_eq!(
            texts(&Float32Array::from(vec![0.1, 16_777_216.0])),
            ["0.1", "1.6777216E7"]
        );
    }

    #[test]
    fn timestamps_drop_what_is_zero_at_their_end() {
        let column = TimestampMillisecondArray::from(vec![0, 1_577_836_800_000, 1_577_836_805_010, -1]);
        let expected = [
            "1970-01-01T00:00",
            "2020-01-01T00:00",
            "2020-01-01T00:00:05.010",
            "1969-12-31T23:59:59.999",
        ];
        assert_eq!(texts(&column), expected);
        let instants = TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("UTC");
        assert_eq!(
            texts(&instants),
            ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000001Z"]
        );
    }

    #[test]
    fn dates_and_times_follow_the_calendar() {
        assert_eq!(
            texts(&Date32Array::from(vec![0, 18_321, -719_162])),
            ["1970-01-01", "2020-02-29", "0001-01-01"]
        );
        assert_eq!(
            texts(&Time32SecondArray::from(vec![0, 3_661])),
            ["00:00", "01:01:01"]
        );
    }

    #[test]
    fn nested_values_and_bytes_print_as_lists() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]);
        assert_eq!(texts(&list), ["[1, null]"]);
        assert_eq!(texts(&BinaryArray::from_vec(vec![b"\x01\xFF"])), ["[1, -1]"]);
        assert_eq!(texts(&Int32Array::from(vec![None, Some(-7)])), ["null", "-7"]);
    }
}
