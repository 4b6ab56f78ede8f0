//! Columns as JSON text: Flink's `RowDataToJsonConverters` and Jackson's writer.

use arrow::array::{Array, ArrayRef, AsArray, Int8Array};
use arrow::datatypes::{
    DataType as Arrow, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalYearMonthType, Time32MillisecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thalweg_plan::Field;

use super::scan::write_string;
use super::{JsonOptions, MapNullKey};
use crate::FormatError;
use crate::format::{Encoder, Messages};
use crate::text::{
    instant_of, write_date, write_decimal, write_decimal_plain, write_double, write_float, write_integer,
    write_time, write_timestamp,
};

/// `json`.
pub(crate) struct JsonEncoder {
    options: JsonOptions,
    names: Vec<String>,
}

impl JsonEncoder {
    pub(crate) fn new(options: JsonOptions, fields: &[Field]) -> Self {
        Self {
            options,
            names: fields.iter().map(|field| field.name.clone()).collect(),
        }
    }
}

impl Encoder for JsonEncoder {
    fn encode(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        _kinds: Option<&Int8Array>,
        out: &mut Messages,
    ) -> Result<(), FormatError> {
        let writer = RowWriter::new(self.names.iter().map(String::as_str), columns, &self.options)?;
        for row in 0..rows {
            writer.write(row, &mut out.bytes)?;
            out.end_message()?;
        }
        Ok(())
    }
}

/// Writes the rows of a batch as objects.
pub(crate) struct RowWriter<'a> {
    /// `"name":`, and the values.
    fields: Vec<(Vec<u8>, Values<'a>)>,
    options: &'a JsonOptions,
}

/// A column's values by their type, told once a batch.
enum Values<'a> {
    Null,
    Boolean(&'a arrow::array::BooleanArray),
    Int8(&'a arrow::array::Int8Array),
    Int16(&'a arrow::array::Int16Array),
    Int32(&'a arrow::array::Int32Array),
    Int64(&'a arrow::array::Int64Array),
    Float32(&'a arrow::array::Float32Array),
    Float64(&'a arrow::array::Float64Array),
    Decimal(&'a arrow::array::Decimal128Array, u8),
    Utf8(&'a arrow::array::StringArray),
    Binary(&'a arrow::array::BinaryArray),
    Date(&'a arrow::array::Date32Array),
    Time(&'a arrow::array::Time32MillisecondArray),
    /// Values, validity, unit, whether it is an instant.
    Timestamp(&'a [i64], Option<&'a arrow::buffer::NullBuffer>, TimeUnit, bool),
    Months(&'a arrow::array::IntervalYearMonthArray),
    Millis(&'a arrow::array::DurationMillisecondArray),
    List(&'a arrow::array::ListArray, Box<Values<'a>>),
    Map(
        &'a arrow::array::MapArray,
        &'a arrow::array::StringArray,
        Box<Values<'a>>,
    ),
    Row(&'a arrow::array::StructArray, RowWriter<'a>),
}

impl<'a> RowWriter<'a> {
    pub(crate) fn new<'n>(
        names: impl Iterator<Item = &'n str>,
        columns: &'a [ArrayRef],
        options: &'a JsonOptions,
    ) -> Result<Self, FormatError> {
        let field = |(name, column): (&str, &'a ArrayRef)| {
            let mut quoted = Vec::with_capacity(name.len() + 3);
            write_string(name.as_bytes(), &mut |bytes| quoted.extend_from_slice(bytes));
            quoted.push(b':');
            Ok((quoted, Values::new(column.as_ref(), options)?))
        };
        Ok(Self {
            fields: names
                .zip(columns)
                .map(field)
                .collect::<Result<_, FormatError>>()?,
            options,
        })
    }

    /// Appends a row as an object.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), FormatError> {
        out.push(b'{');
        let mut first = true;
        for (name, values) in &self.fields {
            if self.options.ignore_null_fields && values.is_null(row) {
                continue;
            }
            if !std::mem::replace(&mut first, false) {
                out.push(b',');
            }
            out.extend_from_slice(name);
            values.write(row, self.options, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

impl<'a> Values<'a> {
    fn new(column: &'a dyn Array, options: &'a JsonOptions) -> Result<Self, FormatError> {
        let timestamp = |values: &'a [i64], unit, zoned| Self::Timestamp(values, column.nulls(), unit, zoned);
        Ok(match column.data_type() {
            Arrow::Null => Self::Null,
            Arrow::Boolean => Self::Boolean(column.as_boolean()),
            Arrow::Int8 => Self::Int8(column.as_primitive::<Int8Type>()),
            Arrow::Int16 => Self::Int16(column.as_primitive::<Int16Type>()),
            Arrow::Int32 => Self::Int32(column.as_primitive::<Int32Type>()),
            Arrow::Int64 => Self::Int64(column.as_primitive::<Int64Type>()),
            Arrow::Float32 => Self::Float32(column.as_primitive::<Float32Type>()),
            Arrow::Float64 => Self::Float64(column.as_primitive::<Float64Type>()),
            Arrow::Decimal128(_, scale) => {
                Self::Decimal(column.as_primitive::<Decimal128Type>(), (*scale).max(0) as u8)
            }
            Arrow::Utf8 => Self::Utf8(column.as_string()),
            Arrow::Binary => Self::Binary(column.as_binary()),
            Arrow::Date32 => Self::Date(column.as_primitive::<Date32Type>()),
            Arrow::Time32(TimeUnit::Millisecond) => {
                Self::Time(column.as_primitive::<Time32MillisecondType>())
            }
            Arrow::Timestamp(unit @ TimeUnit::Millisecond, zone) => {
                let values = column.as_primitive::<TimestampMillisecondType>().values();
                timestamp(values, *unit, zone.is_some())
            }
            Arrow::Timestamp(unit @ TimeUnit::Microsecond, zone) => {
                let values = column.as_primitive::<TimestampMicrosecondType>().values();
                timestamp(values, *unit, zone.is_some())
            }
            Arrow::Timestamp(unit @ TimeUnit::Nanosecond, zone) => {
                let values = column.as_primitive::<TimestampNanosecondType>().values();
                timestamp(values, *unit, zone.is_some())
            }
            Arrow::Interval(_) => Self::Months(column.as_primitive::<IntervalYearMonthType>()),
            Arrow::Duration(_) => Self::Millis(column.as_primitive::<DurationMillisecondType>()),
            Arrow::List(_) => {
                let list = column.as_list::<i32>();
                Self::List(list, Box::new(Self::new(list.values().as_ref(), options)?))
            }
            Arrow::Map(..) => {
                let map = column.as_map();
                let keys = map.keys().as_string_opt().ok_or_else(|| unsupported(column))?;
                Self::Map(map, keys, Box::new(Self::new(map.values().as_ref(), options)?))
            }
            Arrow::Struct(fields) => {
                let row = column.as_struct();
                let names = fields.iter().map(|field| field.name().as_str());
                Self::Row(row, RowWriter::new(names, row.columns(), options)?)
            }
            _ => return Err(unsupported(column)),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(column) => column.is_null(row),
            Self::Int8(column) => column.is_null(row),
            Self::Int16(column) => column.is_null(row),
            Self::Int32(column) => column.is_null(row),
            Self::Int64(column) => column.is_null(row),
            Self::Float32(column) => column.is_null(row),
            Self::Float64(column) => column.is_null(row),
            Self::Decimal(column, _) => column.is_null(row),
            Self::Utf8(column) => column.is_null(row),
            Self::Binary(column) => column.is_null(row),
            Self::Date(column) => column.is_null(row),
            Self::Time(column) => column.is_null(row),
            Self::Timestamp(_, nulls, ..) => nulls.is_some_and(|nulls| nulls.is_null(row)),
            Self::Months(column) => column.is_null(row),
            Self::Millis(column) => column.is_null(row),
            Self::List(column, _) => column.is_null(row),
            Self::Map(column, ..) => column.is_null(row),
            Self::Row(column, _) => column.is_null(row),
        }
    }

    fn write(&self, row: usize, options: &JsonOptions, out: &mut Vec<u8>) -> Result<(), FormatError> {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match self {
            Self::Null => {}
            Self::Boolean(column) => {
                let text: &[u8] = if column.value(row) { b"true" } else { b"false" };
                out.extend_from_slice(text);
            }
            Self::Int8(column) => write_integer(out, i64::from(column.value(row))),
            Self::Int16(column) => write_integer(out, i64::from(column.value(row))),
            Self::Int32(column) => write_integer(out, i64::from(column.value(row))),
            Self::Int64(column) => write_integer(out, column.value(row)),
            Self::Float32(column) => {
                let value = column.value(row);
                quoted_unless(value.is_finite(), out, |out| write_float(out, value));
            }
            Self::Float64(column) => {
                let value = column.value(row);
                quoted_unless(value.is_finite(), out, |out| write_double(out, value));
            }
            Self::Decimal(column, scale) if options.plain_decimals => {
                write_decimal_plain(out, column.value(row), *scale);
            }
            Self::Decimal(column, scale) => write_decimal(out, column.value(row), *scale),
            Self::Utf8(column) => {
                write_string(column.value(row).as_bytes(), &mut |bytes| {
                    out.extend_from_slice(bytes);
                });
            }
            Self::Binary(column) => quoted_unless(false, out, |out| {
                out.extend_from_slice(STANDARD.encode(column.value(row)).as_bytes());
            }),
            Self::Date(column) => {
                quoted_unless(false, out, |out| write_date(out, i64::from(column.value(row))));
            }
            // Flink writes whole seconds only.
            Self::Time(column) => quoted_unless(false, out, |out| {
                write_time(out, i64::from(column.value(row)) / 1_000, 0);
            }),
            Self::Timestamp(values, _, unit, zoned) => quoted_unless(false, out, |out| {
                write_timestamp(out, instant_of(values[row], *unit), options.timestamps, *zoned);
            }),
            Self::Months(column) => write_integer(out, i64::from(column.value(row))),
            Self::Millis(column) => write_integer(out, column.value(row)),
            Self::List(column, elements) => {
                let offsets = column.value_offsets();
                out.push(b'[');
                for element in offsets[row]..offsets[row + 1] {
                    if element > offsets[row] {
                        out.push(b',');
                    }
                    elements.write(element as usize, options, out)?;
                }
                out.push(b']');
            }
            Self::Map(column, keys, values) => {
                let offsets = column.value_offsets();
                return write_map(offsets[row]..offsets[row + 1], keys, values, options, out);
            }
            Self::Row(_, fields) => return fields.write(row, out),
        }
        Ok(())
    }
}

fn write_map(
    entries: std::ops::Range<i32>,
    keys: &arrow::array::StringArray,
    values: &Values<'_>,
    options: &JsonOptions,
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    out.push(b'{');
    let mut first = true;
    for entry in entries {
        let entry = entry as usize;
        let key = if keys.is_valid(entry) {
            keys.value(entry)
        } else {
            match options.map_null_key {
                MapNullKey::Drop => continue,
                MapNullKey::Literal => &options.map_null_key_literal,
                MapNullKey::Fail => {
                    return Err(FormatError::value(
                        "JSON format doesn't support to serialize map data with null keys. You can drop null key entries or encode null in \
                         literals by specifying map-null-key.mode option.",
                    ));
                }
            }
        };
        if !std::mem::replace(&mut first, false) {
            out.push(b',');
        }
        write_string(key.as_bytes(), &mut |bytes| out.extend_from_slice(bytes));
        out.push(b':');
        values.write(entry, options, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn quoted_unless(bare: bool, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if bare {
        return write(out);
    }
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn unsupported(column: &dyn Array) -> FormatError {
    FormatError::value(format!(
        "values of {} can't be written as JSON",
        column.data_type()
    ))
}
