//! JSON into column builders: Flink's `JsonParserToRowDataConverters`.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use thalweg_plan::TypeRoot;
use thalweg_plan::data_type::time_unit;

use super::JsonOptions;
use super::scan::{Scalar, Scanner, is_integer};
use crate::column::{Column, RowColumns, Values};
use crate::format::{Decoded, Decoder};
use crate::projection::Projection;
use crate::text::{
    parse_boolean, parse_date, parse_decimal, parse_double, parse_float, parse_integer, parse_time,
    parse_timestamp, parse_timestamp_ltz, trim, unit_value,
};
use crate::{FormatError, text};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads values into columns.
pub(crate) struct JsonReader {
    options: JsonOptions,
    scratch: Vec<u8>,
}

/// `json`.
pub(crate) struct JsonDecoder {
    reader: JsonReader,
    projection: Projection,
    row: RowColumns,
    rows: usize,
    ignored: u64,
}

impl JsonDecoder {
    pub(crate) fn new(options: JsonOptions, projection: Projection) -> Self {
        Self {
            reader: JsonReader::new(options),
            row: RowColumns::new(&projection.fields),
            projection,
            rows: 0,
            ignored: 0,
        }
    }

    /// An object is a row, an array of objects several; what is behind them isn't looked at, as in Flink.
    fn read(&mut self, message: &[u8]) -> Result<(), FormatError> {
        let text = valid_text(message)?;
        let mut scanner = Scanner::new(text);
        if scanner.peek() != b'[' {
            return self.read_row(&mut scanner);
        }
        scanner.take();
        if scanner.is_empty(b']') {
            return Ok(());
        }
        loop {
            self.read_row(&mut scanner)?;
            if !scanner.more(b']')? {
                return Ok(());
            }
        }
    }

    fn read_row(&mut self, scanner: &mut Scanner<'_>) -> Result<(), FormatError> {
        if scanner.peek() != b'{' {
            return Err(scanner.error("an object"));
        }
        self.reader.row(scanner, &mut self.row, self.rows)?;
        self.rows += 1;
        Ok(())
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, message: &[u8]) -> Result<usize, FormatError> {
        let before = self.rows;
        // A message of nothing is no row, as in Flink.
        if message.is_empty() {
            return Ok(0);
        }
        match self.read(message) {
            Ok(()) => Ok(self.rows - before),
            Err(error) => {
                self.rows = before;
                self.row.truncate(before);
                if !self.reader.options.ignore_parse_errors {
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

/// The message, if it is text.
pub(crate) fn valid_text(message: &[u8]) -> Result<&[u8], FormatError> {
    match std::str::from_utf8(message) {
        Ok(text) => Ok(text.as_bytes()),
        Err(error) => Err(FormatError::syntax(format!(
            "the record isn't UTF-8 from byte {} on",
            error.valid_up_to() + 1
        ))),
    }
}

impl JsonReader {
    pub(crate) fn new(options: JsonOptions) -> Self {
        Self {
            options,
            scratch: Vec::new(),
        }
    }

    /// An object as a row behind `rows` others. On an error the row's columns may be of different lengths.
    pub(crate) fn row(
        &mut self,
        scanner: &mut Scanner<'_>,
        row: &mut RowColumns,
        rows: usize,
    ) -> Result<(), FormatError> {
        scanner.take();
        row.seen.fill(false);
        let mut found = 0;
        let mut next = 0;
        let mut open = !scanner.is_empty(b'}');
        while open {
            let field = {
                let name = scanner.name(&mut self.scratch)?;
                // Once it has as many as there are, Flink looks at no further field.
                if found < row.columns.len() {
                    row.find(name, next)
                } else {
                    None
                }
            };
            match field {
                Some(field) => {
                    let column = &mut row.columns[field];
                    if std::mem::replace(&mut row.seen[field], true) {
                        column.truncate(rows);
                    }
                    self.value(scanner, column)
                        .map_err(|error| error.in_field(&row.names[field]))?;
                    found += 1;
                    next = field + 1;
                }
                None => scanner.skip(&mut self.scratch)?,
            }
            open = scanner.more(b'}')?;
        }
        for (field, column) in row.columns.iter_mut().enumerate() {
            if row.seen[field] {
                continue;
            }
            if self.options.fail_on_missing_field {
                return Err(FormatError::value(format!(
                    "the field {:?} is missing",
                    row.names[field]
                )));
            }
            column.append_null();
        }
        Ok(())
    }

    /// A value as the column's next row; what can't be its column's is null under `ignore-parse-errors`.
    fn value(&mut self, scanner: &mut Scanner<'_>, column: &mut Column) -> Result<(), FormatError> {
        let (rows, begin) = (column.len(), scanner.at);
        match self.typed_value(scanner, column) {
            Err(FormatError::Value(_)) if self.options.ignore_parse_errors => {
                column.truncate(rows);
                column.append_null();
                scanner.at = begin;
                scanner.skip(&mut self.scratch)
            }
            result => result,
        }
    }

    fn typed_value(&mut self, scanner: &mut Scanner<'_>, column: &mut Column) -> Result<(), FormatError> {
        match &mut column.values {
            Values::Row(row) => {
                let rows = column_rows(row);
                match scanner.peek() {
                    b'{' => self.row(scanner, row, rows)?,
                    b'n' if scanner.null()? => {
                        column.append_null();
                        return Ok(());
                    }
                    _ => return Err(FormatError::value("an object is expected")),
                }
                column.end_value();
                Ok(())
            }
            Values::List(..) => self.list(scanner, column),
            Values::Map(..) => self.map(scanner, column),
            Values::Utf8(bytes) if matches!(scanner.peek(), b'{' | b'[') => {
                scanner.copy(&mut self.scratch, &mut bytes.data)?;
                column.end_bytes()
            }
            _ => {
                let scalar = scanner.scalar(&mut self.scratch)?;
                push_scalar(column, &scalar, &self.scratch, &self.options)
            }
        }
    }

    fn list(&mut self, scanner: &mut Scanner<'_>, column: &mut Column) -> Result<(), FormatError> {
        if scanner.null()? {
            column.append_null();
            return Ok(());
        }
        if scanner.peek() != b'[' {
            return Err(FormatError::value("an array is expected"));
        }
        scanner.take();
        let Values::List(_, child) = &mut column.values else {
            return Ok(());
        };
        let mut open = !scanner.is_empty(b']');
        while open {
            self.value(scanner, child)?;
            open = scanner.more(b']')?;
        }
        column.end_list()
    }

    fn map(&mut self, scanner: &mut Scanner<'_>, column: &mut Column) -> Result<(), FormatError> {
        if scanner.null()? {
            column.append_null();
            return Ok(());
        }
        if scanner.peek() != b'{' {
            return Err(FormatError::value("an object is expected"));
        }
        scanner.take();
        let Values::Map(_, children) = &mut column.values else {
            return Ok(());
        };
        let (keys, values) = &mut **children;
        let mut open = !scanner.is_empty(b'}');
        while open {
            let name = scanner.name(&mut self.scratch)?;
            keys.push_bytes(name)?;
            self.value(scanner, values)?;
            open = scanner.more(b'}')?;
        }
        column.end_list()
    }
}

/// Rows of a row's columns, which are of the same length before a value is begun.
fn column_rows(row: &RowColumns) -> usize {
    row.columns.first().map_or(0, Column::len)
}

/// A single value as the column's next row.
fn push_scalar(
    column: &mut Column,
    scalar: &Scalar<'_>,
    scratch: &[u8],
    options: &JsonOptions,
) -> Result<(), FormatError> {
    let (text, is_number): (&[u8], bool) = match scalar {
        Scalar::Null => {
            column.append_null();
            return Ok(());
        }
        Scalar::Boolean(true) => (b"true", false),
        Scalar::Boolean(false) => (b"false", false),
        Scalar::Number(text) => (text, true),
        Scalar::Plain(text) => (text, false),
        Scalar::Unescaped => (scratch, false),
    };
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
                TypeRoot::Time(_) => parse_time(text, true),
                _ => integer(text, is_number).and_then(|value| i32::try_from(value).ok()),
            };
            values.push(value.ok_or_else(wrong)?);
        }
        Values::Int64(values) => {
            let value = match root {
                TypeRoot::Timestamp(precision, _) => parse_timestamp(text, options.timestamps)
                    .and_then(|instant| unit_value(instant, time_unit(*precision))),
                TypeRoot::TimestampLtz(precision, _) => parse_timestamp_ltz(text, options.timestamps)
                    .and_then(|instant| unit_value(instant, time_unit(*precision))),
                _ => integer(text, is_number),
            };
            values.push(value.ok_or_else(wrong)?);
        }
        Values::Float32(values) => values.push(parse_float(text).ok_or_else(wrong)?),
        Values::Float64(values) => values.push(parse_double(text).ok_or_else(wrong)?),
        Values::Decimal(values) => {
            let TypeRoot::Decimal { precision, scale } = root else {
                return Err(wrong());
            };
            match parse_decimal(trim(text), *precision, *scale) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => {
                    column.append_null();
                    return Ok(());
                }
                Err(text::NotANumber) => return Err(wrong()),
            }
        }
        Values::Utf8(_) => return column.push_bytes(text),
        Values::Binary(bytes) => {
            BASE64
                .decode_vec(text, &mut bytes.data)
                .map_err(|_| wrong_value(root, text))?;
            return column.end_bytes();
        }
        Values::List(..) | Values::Map(..) | Values::Row(_) => return Err(wrong()),
    }
    column.end_value();
    Ok(())
}

/// A number's whole part, or a text of digits.
#[inline]
fn integer(text: &[u8], is_number: bool) -> Option<i64> {
    if !is_number {
        return parse_integer(trim(text));
    }
    if is_integer(text) {
        return parse_integer(text);
    }
    let value = parse_double(text)?.trunc();
    // The bounds are exact as doubles; 2^63 itself is beyond.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
        .contains(&value)
        .then_some(value as i64)
}

/// The error for a value that isn't of its type; long ones are cut.
#[cold]
pub(crate) fn wrong_value(root: &TypeRoot, text: &[u8]) -> FormatError {
    const SHOWN: usize = 64;
    let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN)]);
    let rest = if text.len() > SHOWN { ".." } else { "" };
    FormatError::value(format!("{shown:?}{rest} is no value of {root}"))
}
