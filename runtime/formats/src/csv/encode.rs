//! Rows as CSV: Flink's `RowDataToCsvConverters` and Jackson's generator.

use arrow::array::{Array, ArrayRef, AsArray, Int8Array};
use arrow::datatypes::{
    DataType as Arrow, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalYearMonthType, Time32MillisecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thalweg_plan::Field;

use super::CsvOptions;
use crate::FormatError;
use crate::format::{Encoder, Messages};
use crate::text::{
    TimestampFormat, instant_of, write_date, write_decimal, write_decimal_plain, write_double, write_float,
    write_integer, write_time, write_timestamp,
};

/// Jackson looks at no more characters before it quotes a text.
const MAX_CHECKED: usize = 24;

/// `csv`.
pub(crate) struct CsvEncoder {
    options: CsvOptions,
    /// Characters below it need quotes, as Jackson has it.
    min_safe: u8,
    scratch: Vec<u8>,
}

/// Whether a value's text may need quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Bare,
    Text,
    Null,
}

impl CsvEncoder {
    pub(crate) fn new(options: CsvOptions, _fields: &[Field]) -> Self {
        let highest = options.delimiter.max(options.quote.unwrap_or(0)).max(b'\r');
        Self {
            min_safe: highest.saturating_add(1),
            options,
            scratch: Vec::new(),
        }
    }

    fn needs_quotes(&self, text: &[u8]) -> bool {
        let is_long =
            text.len() > MAX_CHECKED && String::from_utf8_lossy(text).encode_utf16().count() > MAX_CHECKED;
        let is_special = |byte: &u8| {
            *byte < self.min_safe || Some(*byte) == self.options.escape || Some(*byte) == self.options.quote
        };
        self.options.quote.is_some() && (is_long || text.iter().any(is_special))
    }

    fn write_text(&self, text: &[u8], out: &mut Vec<u8>) {
        let Some(quote) = self.options.quote.filter(|_| self.needs_quotes(text)) else {
            return out.extend_from_slice(text);
        };
        out.push(quote);
        for byte in text {
            match self.options.escape {
                Some(escape) if *byte == quote || *byte == escape => out.push(escape),
                None if *byte == quote => out.push(quote),
                _ => {}
            }
            out.push(*byte);
        }
        out.push(quote);
    }
}

impl Encoder for CsvEncoder {
    fn encode(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        _kinds: Option<&Int8Array>,
        out: &mut Messages,
    ) -> Result<(), FormatError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        for row in 0..rows {
            for (place, column) in columns.iter().enumerate() {
                if place > 0 {
                    out.bytes.push(self.options.delimiter);
                }
                scratch.clear();
                match write_value(column.as_ref(), row, &self.options, &mut scratch)? {
                    Shape::Text => self.write_text(&scratch, &mut out.bytes),
                    Shape::Bare | Shape::Null => out.bytes.extend_from_slice(&scratch),
                }
            }
            out.end_message()?;
        }
        self.scratch = scratch;
        Ok(())
    }
}

/// A value's text without quotes.
fn write_value(
    column: &dyn Array,
    row: usize,
    options: &CsvOptions,
    out: &mut Vec<u8>,
) -> Result<Shape, FormatError> {
    if column.is_null(row) || *column.data_type() == Arrow::Null {
        out.extend_from_slice(options.null_literal.as_deref().unwrap_or("").as_bytes());
        return Ok(Shape::Null);
    }
    match column.data_type() {
        Arrow::Boolean => {
            let text: &[u8] = if column.as_boolean().value(row) {
                b"true"
            } else {
                b"false"
            };
            out.extend_from_slice(text);
        }
        Arrow::Int8 => write_integer(out, i64::from(column.as_primitive::<Int8Type>().value(row))),
        Arrow::Int16 => write_integer(out, i64::from(column.as_primitive::<Int16Type>().value(row))),
        Arrow::Int32 => write_integer(out, i64::from(column.as_primitive::<Int32Type>().value(row))),
        Arrow::Int64 => write_integer(out, column.as_primitive::<Int64Type>().value(row)),
        Arrow::Float32 => write_float(out, column.as_primitive::<Float32Type>().value(row)),
        Arrow::Float64 => write_double(out, column.as_primitive::<Float64Type>().value(row)),
        Arrow::Decimal128(_, scale) => {
            let value = column.as_primitive::<Decimal128Type>().value(row);
            let scale = (*scale).max(0) as u8;
            if options.scientific_decimals {
                write_decimal(out, value, scale);
            } else {
                write_decimal_plain(out, value, scale);
            }
        }
        Arrow::Interval(_) => {
            write_integer(
                out,
                i64::from(column.as_primitive::<IntervalYearMonthType>().value(row)),
            );
        }
        Arrow::Duration(_) => write_integer(out, column.as_primitive::<DurationMillisecondType>().value(row)),
        _ => return write_text_value(column, row, options, out),
    }
    Ok(Shape::Bare)
}

fn write_text_value(
    column: &dyn Array,
    row: usize,
    options: &CsvOptions,
    out: &mut Vec<u8>,
) -> Result<Shape, FormatError> {
    let mut timestamp = |value: i64, unit: TimeUnit, zoned: bool| {
        write_timestamp(out, instant_of(value, unit), TimestampFormat::Sql, zoned);
    };
    match column.data_type() {
        Arrow::Timestamp(unit @ TimeUnit::Millisecond, zone) => {
            let value = column.as_primitive::<TimestampMillisecondType>().value(row);
            timestamp(value, *unit, zone.is_some());
        }
        Arrow::Timestamp(unit @ TimeUnit::Microsecond, zone) => {
            let value = column.as_primitive::<TimestampMicrosecondType>().value(row);
            timestamp(value, *unit, zone.is_some());
        }
        Arrow::Timestamp(unit @ TimeUnit::Nanosecond, zone) => {
            let value = column.as_primitive::<TimestampNanosecondType>().value(row);
            timestamp(value, *unit, zone.is_some());
        }
        Arrow::Utf8 => out.extend_from_slice(column.as_string::<i32>().value(row).as_bytes()),
        Arrow::Binary => {
            out.extend_from_slice(STANDARD.encode(column.as_binary::<i32>().value(row)).as_bytes());
        }
        Arrow::Date32 => write_date(out, i64::from(column.as_primitive::<Date32Type>().value(row))),
        Arrow::Time32(TimeUnit::Millisecond) => {
            let millis = i64::from(column.as_primitive::<Time32MillisecondType>().value(row));
            write_time(out, millis / 1_000, (millis % 1_000) as u32 * 1_000_000);
        }
        Arrow::List(_) => {
            let list = column.as_list::<i32>();
            let offsets = list.value_offsets();
            for element in offsets[row]..offsets[row + 1] {
                if element > offsets[row] {
                    out.extend_from_slice(&options.array_delimiter);
                }
                write_value(list.values().as_ref(), element as usize, options, out)?;
            }
        }
        Arrow::Struct(_) => {
            for (place, field) in column.as_struct().columns().iter().enumerate() {
                if place > 0 {
                    out.extend_from_slice(&options.array_delimiter);
                }
                write_value(field.as_ref(), row, options, out)?;
            }
        }
        other => {
            return Err(FormatError::value(format!(
                "values of {other} can't be written as CSV"
            )));
        }
    }
    Ok(Shape::Text)
}
