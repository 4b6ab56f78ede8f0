//! The formats by name: their options, decoders and encoders.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int8Array};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use thalweg_plan::{ChangelogMode, DataType, Field};

use crate::FormatError;
use crate::avro::{AvroDecoder, AvroEncoder, AvroOptions};
use crate::column::RowColumns;
use crate::csv::{CsvDecoder, CsvEncoder, CsvOptions};
use crate::debezium::{DebeziumDecoder, DebeziumEncoder, DebeziumOptions, Metadata};
use crate::json::{JsonDecoder, JsonEncoder, JsonOptions};
use crate::projection::Projection;
use crate::raw::{RawDecoder, RawEncoder, RawOptions};

/// Turns messages into columns.
pub trait Decoder: Send {
    /// Adds a message's rows behind those of earlier ones; how many it has. A message that fails adds none; one that the options say to
    /// ignore adds none and is counted.
    fn decode(&mut self, message: &[u8]) -> Result<usize, FormatError>;
    /// Adds a row of nulls.
    fn append_null(&mut self);
    /// Rows since the last flush.
    fn rows(&self) -> usize;
    /// Bytes of those rows, about.
    fn bytes(&self) -> usize;
    /// Messages that were ignored since the decoder was made.
    fn ignored(&self) -> u64;
    /// The rows' columns, in the order of the projection.
    fn flush(&mut self) -> Result<Decoded, FormatError>;
}

/// What a decoder gives.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The projection's columns.
    pub columns: Vec<ArrayRef>,
    /// How many rows there are; columns there may be none.
    pub rows: usize,
    /// `thalweg_types::element::RowKind` a row; `None` = all +I.
    pub kinds: Option<Int8Array>,
}

impl Decoded {
    pub(crate) fn finish(
        row: &mut RowColumns,
        projection: &Projection,
        rows: usize,
        kinds: Option<Int8Array>,
    ) -> Result<Self, FormatError> {
        let columns = row.finish()?;
        for (field, column) in projection.fields.iter().zip(&columns) {
            let nulls = column.nulls().filter(|_| !field.data_type.nullable);
            let first = nulls.and_then(|nulls| (0..nulls.len()).find(|row| nulls.is_null(*row)));
            if let Some(row) = first {
                return Err(FormatError::Null {
                    column: field.name.clone(),
                    row,
                });
            }
        }
        Ok(Self {
            columns: projection.outputs(&columns)?,
            rows,
            kinds,
        })
    }
}

/// Turns rows into messages.
pub trait Encoder: Send {
    /// Appends a message a row, of all rows of these columns. An update's two rows become two messages.
    fn encode(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        kinds: Option<&Int8Array>,
        out: &mut Messages,
    ) -> Result<(), FormatError>;
}

/// Messages, one behind another.
#[derive(Debug, Default)]
pub struct Messages {
    pub(crate) bytes: Vec<u8>,
    ends: Vec<i32>,
    /// Whether a message is there; empty while all are.
    valid: Vec<bool>,
}

impl Messages {
    /// What was appended to the bytes is a message.
    pub(crate) fn end_message(&mut self) -> Result<(), FormatError> {
        let end = i32::try_from(self.bytes.len())
            .map_err(|_| FormatError::value("a batch's messages are larger than 2 GiB"))?;
        self.ends.push(end);
        if !self.valid.is_empty() {
            self.valid.push(true);
        }
        Ok(())
    }

    /// A message that isn't there: null.
    pub fn push_null(&mut self) {
        if self.valid.is_empty() {
            self.valid = vec![true; self.ends.len()];
        }
        self.ends.push(self.bytes.len() as i32);
        self.valid.push(false);
    }

    /// Appends a message as it is.
    pub fn push(&mut self, message: &[u8]) -> Result<(), FormatError> {
        self.bytes.extend_from_slice(message);
        self.end_message()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A message's bytes; empty if it isn't there.
    pub fn get(&self, message: usize) -> &[u8] {
        let begin = match message {
            0 => 0,
            message => self.ends[message - 1],
        };
        &self.bytes[begin as usize..self.ends[message] as usize]
    }

    /// All of them as a column; begins anew.
    pub fn finish(&mut self) -> BinaryArray {
        let next = Self {
            bytes: Vec::with_capacity(self.bytes.len()),
            ends: Vec::with_capacity(self.ends.len()),
            valid: Vec::new(),
        };
        let full = std::mem::replace(self, next);
        let mut offsets = Vec::with_capacity(full.ends.len() + 1);
        offsets.push(0);
        offsets.extend(full.ends);
        let nulls = (!full.valid.is_empty()).then(|| NullBuffer::from(full.valid));
        BinaryArray::new(
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(full.bytes),
            nulls,
        )
    }
}

/// A format's options, without the prefix that they have in the table's.
#[derive(Debug, Clone, Copy)]
pub struct OptionReader<'a> {
    options: &'a BTreeMap<String, String>,
    prefix: &'a str,
}

impl<'a> OptionReader<'a> {
    /// Of a table's options those that begin with `prefix`, as "json." or "value.json.".
    pub fn new(options: &'a BTreeMap<String, String>, prefix: &'a str) -> Self {
        Self { options, prefix }
    }

    /// The value of an option.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.options.get(&self.key(key)).map(String::as_str)
    }

    /// The whole key of an option, for messages.
    pub fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// `true` or `false` in any case.
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.get(key) {
            None => Ok(default),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(format!(
                "Invalid value for option '{}': Could not parse value '{value}'. Expected 'true' or 'false'.",
                self.key(key)
            )),
        }
    }
}

/// Which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Flink's names")]
pub enum FormatKind {
    Json,
    Csv,
    Raw,
    DebeziumJson,
    Avro,
}

impl FormatKind {
    /// All, in the order of their names.
    pub const ALL: [Self; 5] = [Self::Avro, Self::Csv, Self::DebeziumJson, Self::Json, Self::Raw];

    /// As `format` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Raw => "raw",
            Self::DebeziumJson => "debezium-json",
            Self::Avro => "avro",
        }
    }

    /// The format of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The options that it knows, without prefix.
    pub fn option_keys(self) -> &'static [&'static str] {
        match self {
            Self::Json => &JsonOptions::KEYS,
            Self::Csv => &CsvOptions::KEYS,
            Self::Raw => &RawOptions::KEYS,
            Self::DebeziumJson => &DebeziumOptions::KEYS,
            Self::Avro => &AvroOptions::KEYS,
        }
    }

    /// Kinds of rows that it reads and writes.
    pub fn changelog(self) -> ChangelogMode {
        match self {
            Self::DebeziumJson => ChangelogMode::ALL,
            Self::Json | Self::Csv | Self::Raw | Self::Avro => ChangelogMode::INSERT_ONLY,
        }
    }
}

/// How a record's values are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoting {
    /// As a value's first character it begins a quoted one; in that, two of it are one.
    pub quote: u8,
    /// Between values.
    pub delimiter: u8,
    /// Takes its meaning from the next character.
    pub escape: Option<u8>,
    /// A record that begins so holds no values.
    pub comment: Option<u8>,
}

/// A format with its options; makes decoders and encoders.
#[derive(Debug, Clone)]
pub struct Format(Arc<Options>);

#[derive(Debug)]
enum Options {
    Json(JsonOptions),
    Csv(CsvOptions),
    Raw(RawOptions),
    DebeziumJson(DebeziumOptions),
    Avro(AvroOptions),
}

impl Format {
    /// With these options; the message says which is wrong, as Flink says it.
    pub fn new(kind: FormatKind, options: &OptionReader<'_>) -> Result<Self, String> {
        Ok(Self(Arc::new(match kind {
            FormatKind::Json => Options::Json(JsonOptions::read(options)?),
            FormatKind::Csv => Options::Csv(CsvOptions::read(options)?),
            FormatKind::Raw => Options::Raw(RawOptions::read(options)?),
            FormatKind::DebeziumJson => Options::DebeziumJson(DebeziumOptions::read(options)?),
            FormatKind::Avro => Options::Avro(AvroOptions::read(options)?),
        })))
    }

    /// Which it is.
    pub fn kind(&self) -> FormatKind {
        match &*self.0 {
            Options::Json(_) => FormatKind::Json,
            Options::Csv(_) => FormatKind::Csv,
            Options::Raw(_) => FormatKind::Raw,
            Options::DebeziumJson(_) => FormatKind::DebeziumJson,
            Options::Avro(_) => FormatKind::Avro,
        }
    }

    /// Whether it can read or write rows of these columns; the message names what it can't.
    pub fn check(&self, fields: &[Field]) -> Result<(), String> {
        match &*self.0 {
            Options::Json(_) | Options::DebeziumJson(_) => crate::json::check(fields),
            Options::Csv(_) => crate::csv::check(fields),
            Options::Raw(_) => crate::raw::check(fields),
            Options::Avro(options) => options.check(fields),
        }
    }

    /// Whether it can write with its options; [`Self::check`] is about columns.
    pub fn check_writing(&self) -> Result<(), String> {
        match &*self.0 {
            Options::DebeziumJson(options) => options.check_writing(),
            Options::Json(_) | Options::Csv(_) | Options::Raw(_) | Options::Avro(_) => Ok(()),
        }
    }

    /// Reads messages of `fields` and gives what `projection`, which is of them, wants.
    pub fn decoder(&self, fields: &[Field], projection: Projection) -> Box<dyn Decoder> {
        match &*self.0 {
            Options::Json(options) => Box::new(JsonDecoder::new(options.clone(), projection)),
            Options::Csv(options) => Box::new(CsvDecoder::new(options.clone(), fields, projection)),
            Options::Raw(options) => Box::new(RawDecoder::new(options, projection)),
            Options::DebeziumJson(options) => {
                Box::new(DebeziumDecoder::new(options.clone(), projection, Vec::new()))
            }
            Options::Avro(_) => Box::new(AvroDecoder::new(fields, projection)),
        }
    }

    /// Keys of what can be read of a message beside its rows, and their types.
    pub fn metadata(&self) -> Vec<(&'static str, DataType)> {
        match self.kind() {
            FormatKind::DebeziumJson => Metadata::ALL
                .into_iter()
                .map(|metadata| (metadata.key(), metadata.data_type()))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// As [`Self::decoder`]; behind the projection's columns come those of these keys of [`Self::metadata`].
    pub fn decoder_with_metadata(
        &self,
        fields: &[Field],
        projection: Projection,
        metadata: &[String],
    ) -> Box<dyn Decoder> {
        match &*self.0 {
            Options::DebeziumJson(options) => {
                let metadata = metadata.iter().filter_map(|key| Metadata::of(key)).collect();
                Box::new(DebeziumDecoder::new(options.clone(), projection, metadata))
            }
            _ => self.decoder(fields, projection),
        }
    }

    /// Writes messages of `fields`.
    pub fn encoder(&self, fields: &[Field]) -> Box<dyn Encoder> {
        match &*self.0 {
            Options::Json(options) => Box::new(JsonEncoder::new(options.clone(), fields)),
            Options::Csv(options) => Box::new(CsvEncoder::new(options.clone(), fields)),
            Options::Raw(options) => Box::new(RawEncoder::new(options)),
            Options::DebeziumJson(options) => Box::new(DebeziumEncoder::new(options, fields)),
            Options::Avro(_) => Box::new(AvroEncoder::new(fields)),
        }
    }

    /// Whether single fields of rows can be read.
    pub fn supports_nested_projection(&self) -> bool {
        !matches!(self.kind(), FormatKind::Csv | FormatKind::Raw)
    }

    /// How values are quoted in which a line's end ends no record, for files; `None`: each line is a record.
    pub fn quoting(&self) -> Option<Quoting> {
        match &*self.0 {
            Options::Csv(options) => options.quote.map(|quote| Quoting {
                quote,
                delimiter: options.delimiter,
                escape: options.escape,
                comment: options.allow_comments.then_some(b'#'),
            }),
            _ => None,
        }
    }
}
