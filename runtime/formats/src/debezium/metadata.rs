//! What Debezium tells of a change beside its rows: Flink's DebeziumJsonDecodingFormat.ReadableMetadata.
//!
//! ```text
//!   {"schema": .., "payload": {"ts_ms": .., "source": {"ts_ms": .., "db": .., "schema": .., "table": ..}, ..}}
//!     schema           ingestion-timestamp    source.timestamp, .database, .schema, .table, .properties
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, StringBuilder, TimestampMillisecondArray};
use arrow::datatypes::Int64Type;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, TypeRoot};

use crate::FormatError;
use crate::column::RowColumns;
use crate::json::{JsonReader, Scanner};

/// One of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metadata {
    Schema,
    IngestionTimestamp,
    SourceTimestamp,
    SourceDatabase,
    SourceSchema,
    SourceTable,
    SourceProperties,
}

impl Metadata {
    pub(crate) const ALL: [Self; 7] = [
        Self::Schema,
        Self::IngestionTimestamp,
        Self::SourceTimestamp,
        Self::SourceDatabase,
        Self::SourceSchema,
        Self::SourceTable,
        Self::SourceProperties,
    ];

    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::IngestionTimestamp => "ingestion-timestamp",
            Self::SourceTimestamp => "source.timestamp",
            Self::SourceDatabase => "source.database",
            Self::SourceSchema => "source.schema",
            Self::SourceTable => "source.table",
            Self::SourceProperties => "source.properties",
        }
    }

    pub(crate) fn of(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metadata| metadata.key() == key)
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::IngestionTimestamp | Self::SourceTimestamp => {
                DataType::nullable(TypeRoot::TimestampLtz(3, TimeKind::Regular))
            }
            Self::SourceProperties => properties(),
            Self::Schema | Self::SourceDatabase | Self::SourceSchema | Self::SourceTable => {
                DataType::string()
            }
        }
    }
}

fn properties() -> DataType {
    let text = || Box::new(DataType::string());
    DataType::nullable(TypeRoot::Map(text(), text()))
}

/// The wanted metadata of the rows so far.
pub(crate) struct MetadataColumns {
    wanted: Vec<Metadata>,
    /// "ts_ms" and "source" of the change.
    payload: RowColumns,
    /// "schema" beside the payload.
    root: RowColumns,
    rows: usize,
}

impl MetadataColumns {
    pub(crate) fn new(wanted: Vec<Metadata>) -> Self {
        let payload = [
            Field::new("ts_ms", DataType::nullable(TypeRoot::BigInt)),
            Field::new("source", properties()),
        ];
        Self {
            wanted,
            payload: RowColumns::new(&payload),
            root: RowColumns::new(&[Field::new("schema", DataType::string())]),
            rows: 0,
        }
    }

    /// Adds a row: the message's root and its payload begin there in its text.
    pub(crate) fn push(
        &mut self,
        reader: &mut JsonReader,
        text: &[u8],
        root: usize,
        payload: usize,
    ) -> Result<(), FormatError> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        for (columns, begin) in [(&mut self.payload, payload), (&mut self.root, root)] {
            let mut scanner = Scanner::new(text);
            scanner.at = begin;
            reader.row(&mut scanner, columns, self.rows)?;
        }
        self.rows += 1;
        Ok(())
    }

    pub(crate) fn append_null(&mut self) {
        if !self.wanted.is_empty() {
            self.payload.append_null();
            self.root.append_null();
            self.rows += 1;
        }
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        if !self.wanted.is_empty() {
            self.payload.truncate(rows);
            self.root.truncate(rows);
            self.rows = rows;
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload.bytes() + self.root.bytes()
    }

    /// A column for each wanted key; begins anew.
    pub(crate) fn finish(&mut self) -> Result<Vec<ArrayRef>, FormatError> {
        if self.wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.rows = 0;
        let missing = || FormatError::Columns("a change's metadata has other columns".to_owned());
        let (payload, root) = (self.payload.finish()?, self.root.finish()?);
        let ([ingestion, source], [schema]) = (payload.as_slice(), root.as_slice()) else {
            return Err(missing());
        };
        let source_map = source.as_map_opt().ok_or_else(missing)?;
        let column = |metadata: &Metadata| {
            Ok(match metadata {
                Metadata::Schema => Arc::clone(schema),
                Metadata::IngestionTimestamp => {
                    let millis = ingestion.as_primitive_opt::<Int64Type>().ok_or_else(missing)?;
                    times(millis.iter().map(Ok))?
                }
                Metadata::SourceTimestamp => {
                    let texts = values_of(source_map, "ts_ms").ok_or_else(missing)?;
                    let texts = texts.as_string_opt::<i32>().ok_or_else(missing)?;
                    times(texts.iter().map(|text| text.map(millis_of).transpose()))?
                }
                Metadata::SourceDatabase => values_of(source_map, "db").ok_or_else(missing)?,
                Metadata::SourceSchema => values_of(source_map, "schema").ok_or_else(missing)?,
                Metadata::SourceTable => values_of(source_map, "table").ok_or_else(missing)?,
                Metadata::SourceProperties => Arc::clone(source),
            })
        };
        self.wanted.iter().map(column).collect()
    }
}

fn millis_of(text: &str) -> Result<i64, FormatError> {
    text.parse().map_err(|_| {
        FormatError::value(format!(
            "\"source\".\"ts_ms\" is no number of milliseconds: {text:?}"
        ))
    })
}

fn times(millis: impl Iterator<Item = Result<Option<i64>, FormatError>>) -> Result<ArrayRef, FormatError> {
    let millis: TimestampMillisecondArray = millis.collect::<Result<Vec<_>, _>>()?.into();
    let arrow = Metadata::SourceTimestamp.data_type().to_arrow();
    Ok(Arc::new(millis.with_data_type(arrow)))
}

/// The value of a key in each row's map.
fn values_of(source: &MapArray, key: &str) -> Option<ArrayRef> {
    let keys = source.keys().as_string_opt::<i32>()?;
    let values = source.values().as_string_opt::<i32>()?;
    let offsets = source.value_offsets();
    let mut found = StringBuilder::new();
    for row in 0..source.len() {
        let entries = offsets[row] as usize..offsets[row + 1] as usize;
        let entry = source
            .is_valid(row)
            .then(|| entries.rev().find(|entry| keys.value(*entry) == key))
            .flatten()
            .filter(|entry| values.is_valid(*entry));
        found.append_option(entry.map(|entry| values.value(entry)));
    }
    Some(Arc::new(found.finish()))
}
