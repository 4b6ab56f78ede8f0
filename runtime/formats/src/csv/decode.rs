//! One record of CSV into column builders: Flink's `CsvToRowDataConverters`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thalweg_plan::data_type::time_unit;
use thalweg_plan::{Field, TypeRoot};

use super::CsvOptions;
use crate::FormatError;
use crate::column::{Column, RowColumns, Values};
use crate::format::{Decoded, Decoder};
use crate::json::{valid_text, wrong_value};
use crate::projection::Projection;
use crate::text::{
    TimestampFormat, parse_boolean, parse_date, parse_decimal, parse_double, parse_float, parse_integer,
    parse_time, parse_timestamp, parse_timestamp_ltz, trim, unit_value,
};

/// `csv`.
pub(crate) struct CsvDecoder {
    options: CsvOptions,
    /// The wanted column that each field of a record is, if one is.
    targets: Vec<Option<usize>>,
    projection: Projection,
    row: RowColumns,
    rows: usize,
    ignored: u64,
    scratch: Vec<u8>,
}

impl CsvDecoder {
    pub(crate) fn new(options: CsvOptions, fields: &[Field], projection: Projection) -> Self {
        let target = |field: &Field| {
            projection
                .fields
                .iter()
                .position(|wanted| wanted.name == field.name)
        };
        Self {
            options,
            targets: fields.iter().map(target).collect(),
            row: RowColumns::new(&projection.fields),
            projection,
            rows: 0,
            ignored: 0,
            scratch: Vec::new(),
        }
    }

    fn read(&mut self, message: &[u8]) -> Result<(), FormatError> {
        let mut rest = Some(valid_text(message)?);
        let mut fields = 0;
        while let Some(text) = rest {
            let (value, behind) = next_field(text, &self.options, &mut self.scratch)?;
            let Some(target) = self.targets.get(fields) else {
                return Err(FormatError::syntax(format!(
                    "Too many entries: expected at most {} columns",
                    self.targets.len()
                )));
            };
            if let Some(target) = target {
                let column = &mut self.row.columns[*target];
                let value = value.unwrap_or(&self.scratch);
                push(column, value, &self.options)
                    .map_err(|error| error.in_field(&self.row.names[*target]))?;
            }
            fields += 1;
            rest = behind;
        }
        if fields < self.targets.len() {
            self.fill(fields)?;
        }
        self.rows += 1;
        Ok(())
    }

    /// The record ended early.
    fn fill(&mut self, fields: usize) -> Result<(), FormatError> {
        if !self.options.ignore_parse_errors {
            return Err(FormatError::syntax(format!(
                "Row length mismatch. {} fields expected but was {fields}.",
                self.targets.len()
            )));
        }
        for target in self.targets[fields..].iter().flatten() {
            self.row.columns[*target].append_null();
        }
        Ok(())
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, message: &[u8]) -> Result<usize, FormatError> {
        let is_comment = self.options.allow_comments && message.first() == Some(&b'#');
        if message.is_empty() || is_comment {
            return Ok(0);
        }
        match self.read(message) {
            Ok(()) => Ok(1),
            Err(error) => {
                self.row.truncate(self.rows);
                if !self.options.ignore_parse_errors {
                    return Err(error);
                }
                self.ignored += 1;
                Ok(0)
            }
        }
    }

    fn append_null(&mut self) {
        self.row.append_null();
        self.rows += 1;
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn bytes(&self) -> usize {
        self.row.bytes()
    }

    fn ignored(&self) -> u64 {
        self.ignored
    }

    fn flush(&mut self) -> Result<Decoded, FormatError> {
        let rows = std::mem::take(&mut self.rows);
        Decoded::finish(&mut self.row, &self.projection, rows, None)
    }
}

/// A field, where it stands or in `scratch`, and what is behind its delimiter; `None`: it was the last one.
type NextField<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

#[inline]
fn next_field<'a>(
    text: &'a [u8],
    options: &CsvOptions,
    scratch: &mut Vec<u8>,
) -> Result<NextField<'a>, FormatError> {
    if options.quote.is_some() && text.first() == options.quote.as_ref() {
        return quoted_field(text, options, scratch);
    }
    let end = memchr::memchr(options.delimiter, text);
    let escape = options.escape.and_then(|escape| memchr::memchr(escape, text));
    match (end, escape) {
        (end, Some(escape)) if end.is_none_or(|end| escape < end) => escaped_field(text, options, scratch),
        (Some(end), _) => Ok((Some(&text[..end]), Some(&text[end + 1..]))),
        (None, _) => Ok((Some(text), None)),
    }
}

fn escaped_field<'a>(
    text: &'a [u8],
    options: &CsvOptions,
    scratch: &mut Vec<u8>,
) -> Result<NextField<'a>, FormatError> {
    scratch.clear();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if Some(*byte) == options.escape {
            scratch.push(unescape(text.get(at + 1))?);
            at += 2;
        } else if *byte == options.delimiter {
            return Ok((None, Some(&text[at + 1..])));
        } else {
            scratch.push(*byte);
            at += 1;
        }
    }
    Ok((None, None))
}

/// A field in quotes; a quote in it is written twice.
fn quoted_field<'a>(
    text: &'a [u8],
    options: &CsvOptions,
    scratch: &mut Vec<u8>,
) -> Result<NextField<'a>, FormatError> {
    let quote = options.quote.unwrap_or(b'"');
    scratch.clear();
    let mut at = 1;
    loop {
        let Some(byte) = text.get(at) else {
            return Err(FormatError::syntax("a quoted value has no closing quote"));
        };
        if *byte == quote {
            if text.get(at + 1) != Some(&quote) {
                break;
            }
            scratch.push(quote);
            at += 2;
        } else if Some(*byte) == options.escape {
            scratch.push(unescape(text.get(at + 1))?);
            at += 2;
        } else {
            scratch.push(*byte);
            at += 1;
        }
    }
    let behind = &text[at + 1..];
    let spaces = behind
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    let spaces = if options.delimiter == b'\t' { 0 } else { spaces };
    match behind.get(spaces) {
        None => Ok((None, None)),
        Some(byte) if *byte == options.delimiter => Ok((None, Some(&behind[spaces + 1..]))),
        Some(_) => Err(FormatError::syntax(
            "Expected column separator character behind a quoted value's closing quote",
        )),
    }
}

fn unescape(byte: Option<&u8>) -> Result<u8, FormatError> {
    Ok(match byte {
        Some(b'0') => 0,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(byte) => *byte,
        None => return Err(FormatError::syntax("the record ends behind an escape character")),
    })
}

/// A value as the column's next row; what can't be its column's is null under `ignore-parse-errors`.
fn push(column: &mut Column, text: &[u8], options: &CsvOptions) -> Result<(), FormatError> {
    let rows = column.len();
    if options
        .null_literal
        .as_ref()
        .is_some_and(|null| null.as_bytes() == text)
    {
        column.append_null();
        return Ok(());
    }
    match push_value(column, text, options) {
        Err(FormatError::Value(_)) if options.ignore_parse_errors => {
            column.truncate(rows);
            column.append_null();
            Ok(())
        }
        result => result,
    }
}

fn push_value(column: &mut Column, text: &[u8], options: &CsvOptions) -> Result<(), FormatError> {
    let root = &column.root;
    let wrong = || wrong_value(root, text);
    match &mut column.values {
        Values::Null => {
            column.append_null();
            return Ok(());
        }
        Values::Boolean(values) => values.push(parse_boolean(trim(text))),
        Values::Int8(values) => {
            let value = parse_integer(trim(text)).and_then(|value| i8::try_from(value).ok());
            values.push(value.ok_or_else(wrong)?);
        }
        Values::Int16(values) => {
            let value = parse_integer(trim(text)).and_then(|value| i16::try_from(value).ok());
            values.push(value.ok_or_else(wrong)?);
        }
        Values::Int32(values) => {
            let value = match root {
                TypeRoot::Date => parse_date(text),
                TypeRoot::Time(precision) => {
                    let unit = 10_i32.pow(3 - u32::from((*precision).min(3)));
                    parse_time(text, false).map(|millis| millis / unit * unit)
                }
                _ => parse_integer(trim(text)).and_then(|value| i32::try_from(value).ok()),
            };
            values.push(value.ok_or_else(wrong)?);
        }
        Values::Int64(values) => {
            let value = match root {
                TypeRoot::Timestamp(precision, _) => parse_timestamp(text, TimestampFormat::Sql)
                    .and_then(|instant| unit_value(instant, time_unit(*precision))),
                TypeRoot::TimestampLtz(precision, _) => parse_timestamp_ltz(text, TimestampFormat::Sql)
                    .and_then(|instant| unit_value(instant, time_unit(*precision))),
                _ => parse_integer(trim(text)),
            };
            values.push(value.ok_or_else(wrong)?);
        }
        Values::Float32(values) => values.push(parse_float(text).ok_or_else(wrong)?),
        Values::Float64(values) => values.push(parse_double(text).ok_or_else(wrong)?),
        Values::Decimal(values) => {
            let TypeRoot::Decimal { precision, scale } = root else {
                return Err(wrong());
            };
            match parse_decimal(text, *precision, *scale).map_err(|_| wrong())? {
                Some(value) => values.push(value),
                None => {
                    column.append_null();
                    return Ok(());
                }
            }
        }
        Values::Utf8(_) => return column.push_bytes(text),
        Values::Binary(bytes) => {
            STANDARD
                .decode_vec(text, &mut bytes.data)
                .map_err(|_| wrong_value(root, text))?;
            return column.end_bytes();
        }
        Values::List(_, child) => {
            for element in elements(text, &options.array_delimiter) {
                push(child, element, options)?;
            }
            return column.end_list();
        }
        Values::Row(row) => push_row(row, text, options)?,
        Values::Map(..) => return Err(wrong()),
    }
    column.end_value();
    Ok(())
}

fn push_row(row: &mut RowColumns, text: &[u8], options: &CsvOptions) -> Result<(), FormatError> {
    let count = elements(text, &options.array_delimiter).count();
    if count != row.columns.len() && !options.ignore_parse_errors {
        return Err(FormatError::value(format!(
            "Row length mismatch. {} fields expected but was {count}.",
            row.columns.len()
        )));
    }
    let mut values = elements(text, &options.array_delimiter);
    for column in &mut row.columns {
        match values.next() {
            Some(value) => push(column, value, options)?,
            None => column.append_null(),
        }
    }
    Ok(())
}

/// The parts of a text between delimiters; an empty text has none.
fn elements<'a>(text: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = (!text.is_empty()).then_some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.windows(delimiter.len()).position(|part| part == delimiter) {
            Some(end) => {
                rest = Some(&text[end + delimiter.len()..]);
                Some(&text[..end])
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}
