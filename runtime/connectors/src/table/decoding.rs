//! A source of messages, read by a format.
//!
//! ```text
//!   inner source: value | key | partition | offset ..  --decoders--> the scan's columns, on the task's thread
//! ```
//!
//! The inner source makes watermarks by split of those that the scan's rows have: they are reported to it batch by batch
//! ([`SourceReader::report_watermarks`]), and what it makes of them comes with a later batch.
//!
//! A message may be several rows (a change of Debezium's) or none (a tombstone, an ignored record); the columns beside it are taken as
//! often.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int8Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use thalweg_formats::{Decoder, Format, FormatError, Projection};
use thalweg_plan::Field;
use thalweg_types::element::RowKind;
use thalweg_types::{StreamBatch, WatermarkCut};

use super::columns::batch_of;
use crate::watermark::WatermarkAlignment;
use crate::{ConnectorContext, ConnectorError, Gauge, Source, SourceEvent, SourceReader};

/// A message column, and how it is read.
pub(crate) struct Part {
    pub(crate) format: Format,
    /// All fields of its messages.
    pub(crate) fields: Vec<Field>,
    pub(crate) projection: Projection,
    /// Keys of what the format tells beside the rows.
    pub(crate) metadata: Vec<String>,
}

impl Part {
    fn decoder(&self) -> Box<dyn Decoder> {
        self.format
            .decoder_with_metadata(&self.fields, self.projection.clone(), &self.metadata)
    }
}

/// Where an output column is from.
pub(crate) enum Origin {
    /// The value's projection.
    Value(usize),
    /// The value's metadata.
    ValueMetadata(usize),
    /// The key's projection.
    Key(usize),
    /// A column of the inner source, by position.
    Beside(usize, Convert),
}

/// Turns a column of the inner source into what the table declares.
pub(crate) type Convert = fn(&ArrayRef, &arrow::datatypes::DataType) -> Option<ArrayRef>;

/// What becomes of a record without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoValue {
    /// Nothing.
    Skip,
    /// A row of nulls.
    Row,
    /// -D of the key.
    Delete,
}

/// Names a message of a batch.
pub(crate) type Describe = Box<dyn Fn(&RecordBatch, usize) -> String + Send + Sync>;

/// The watermark behind each of a scan's rows, in milliseconds; a null is none.
pub type RowWatermarks = Arc<dyn Fn(&RecordBatch) -> Result<Int64Array, ConnectorError> + Send + Sync>;

/// How messages become rows.
pub(crate) struct Decoding {
    pub(crate) value: Part,
    pub(crate) key: Option<Part>,
    pub(crate) outputs: Vec<Origin>,
    pub(crate) no_value: NoValue,
    /// The inner source's column of values.
    pub(crate) value_column: usize,
    /// The inner source's column of keys.
    pub(crate) key_column: usize,
    /// Names a message of an inner batch: "Kafka topic \"t\" partition 0 offset 7".
    pub(crate) describe: Describe,
}

/// A source of what `inner`'s messages hold.
pub(crate) struct DecodingSource {
    pub(crate) inner: Arc<dyn Source>,
    pub(crate) decoding: Arc<Decoding>,
    pub(crate) schema: SchemaRef,
    /// Told to `inner`, which makes its splits' watermarks of them.
    pub(crate) watermarks: Option<RowWatermarks>,
}

impl Source for DecodingSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        self.inner.validate()
    }

    fn watermark_alignment(&self) -> Option<&WatermarkAlignment> {
        self.inner.watermark_alignment()
    }

    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError> {
        Ok(Box::new(DecodingReader {
            inner: self.inner.create_reader(context)?,
            value: self.decoding.value.decoder(),
            key: self.decoding.key.as_ref().map(Part::decoder),
            decoding: Arc::clone(&self.decoding),
            schema: Arc::clone(&self.schema),
            watermarks: self.watermarks.clone(),
            messages: Vec::new(),
        }))
    }
}

struct DecodingReader {
    inner: Box<dyn SourceReader>,
    value: Box<dyn Decoder>,
    key: Option<Box<dyn Decoder>>,
    decoding: Arc<Decoding>,
    schema: SchemaRef,
    watermarks: Option<RowWatermarks>,
    /// The message of each row.
    messages: Vec<u32>,
}

fn bytes_of(batch: &RecordBatch, column: usize) -> Result<&BinaryArray, ConnectorError> {
    let column = batch.columns().get(column);
    column
        .and_then(|column| column.as_binary_opt())
        .ok_or_else(|| ConnectorError::Malformed("the source's messages are no bytes".to_owned()))
}

impl DecodingReader {
    fn decode(&mut self, batch: &StreamBatch) -> Result<StreamBatch, ConnectorError> {
        let decoding = Arc::clone(&self.decoding);
        let rows = &batch.rows;
        let failed = |message: usize, error: &FormatError| {
            ConnectorError::Malformed(format!("{}: {error}", (decoding.describe)(rows, message)))
        };
        let values = bytes_of(rows, decoding.value_column)?;
        let keys = match &self.key {
            Some(_) => Some(bytes_of(rows, decoding.key_column)?),
            None => None,
        };
        self.messages.clear();
        let mut deletes = Vec::new();
        for message in 0..values.len() {
            let count = match (values.is_null(message), decoding.no_value) {
                (false, _) => self
                    .value
                    .decode(values.value(message))
                    .map_err(|error| failed(message, &error))?,
                (true, NoValue::Skip) => 0,
                (true, how) => {
                    self.value.append_null();
                    if how == NoValue::Delete {
                        deletes.push(self.messages.len());
                    }
                    1
                }
            };
            self.messages.extend(std::iter::repeat_n(message as u32, count));
            if let (Some(decoder), Some(keys)) = (&mut self.key, keys) {
                for _ in 0..count {
                    let decoded = match keys.is_null(message) {
                        true => 0,
                        false => decoder
                            .decode(keys.value(message))
                            .map_err(|error| failed(message, &error))?,
                    };
                    match decoded {
                        0 => decoder.append_null(),
                        1 => {}
                        _ => {
                            let error = FormatError::Value("the key holds several rows".to_owned());
                            return Err(failed(message, &error));
                        }
                    }
                }
            }
        }
        self.finish(batch, &deletes)
    }

    fn finish(&mut self, batch: &StreamBatch, deletes: &[usize]) -> Result<StreamBatch, ConnectorError> {
        let messages = &self.messages;
        let rows = messages.len();
        let describe = |row: usize| {
            let message = messages.get(row).copied().unwrap_or(0) as usize;
            (self.decoding.describe)(&batch.rows, message)
        };
        let failed = |error: FormatError| match &error {
            FormatError::Null { row, .. } => {
                ConnectorError::Malformed(format!("{}: {error}", describe(*row)))
            }
            _ => ConnectorError::Malformed(error.to_string()),
        };
        let value = self.value.flush().map_err(failed)?;
        let key = match &mut self.key {
            Some(decoder) => Some(decoder.flush().map_err(failed)?),
            None => None,
        };
        let one_each =
            rows == batch.num_rows() && messages.iter().enumerate().all(|(row, at)| row == *at as usize);
        let indices = UInt32Array::from(if one_each { Vec::new() } else { messages.clone() });
        let misfit = |what: &str| {
            ConnectorError::Malformed(format!("the source's columns don't fit the scan: {what}"))
        };
        let column = |(place, origin): (usize, &Origin)| match origin {
            Origin::Value(column) => value.columns.get(*column).cloned().ok_or_else(|| misfit("value")),
            Origin::ValueMetadata(column) => value
                .columns
                .get(self.decoding.value.projection.len() + *column)
                .cloned()
                .ok_or_else(|| misfit("the value's metadata")),
            Origin::Key(column) => key
                .as_ref()
                .and_then(|key| key.columns.get(*column).cloned())
                .ok_or_else(|| misfit("key")),
            Origin::Beside(column, convert) => {
                let column = batch
                    .rows
                    .columns()
                    .get(*column)
                    .ok_or_else(|| misfit("metadata"))?;
                let column = match one_each {
                    true => column.clone(),
                    false => take(column, &indices, None).map_err(|error| misfit(&error.to_string()))?,
                };
                convert(&column, self.schema.field(place).data_type()).ok_or_else(|| misfit("metadata type"))
            }
        };
        let columns = self
            .decoding
            .outputs
            .iter()
            .enumerate()
            .map(column)
            .collect::<Result<Vec<_>, _>>()?;
        let mut decoded = StreamBatch::new(batch_of(&self.schema, columns, rows)?);
        decoded.kinds = value.kinds;
        if !deletes.is_empty() {
            let mut kinds = vec![RowKind::Insert as i8; rows];
            for row in deletes {
                kinds[*row] = RowKind::Delete as i8;
            }
            decoded.kinds = Some(Int8Array::from(kinds));
        }
        // A watermark stays behind the rows of the messages that it was behind.
        decoded
            .watermarks
            .extend(batch.watermarks.iter().map(|cut| WatermarkCut {
                row: messages.partition_point(|message| *message < cut.row) as u32,
                timestamp_ms: cut.timestamp_ms,
            }));
        Ok(decoded)
    }
}

impl SourceReader for DecodingReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        self.inner.poll_next(cx).map(|event| match event? {
            SourceEvent::Batch(batch) => {
                let decoded = self.decode(&batch)?;
                if let (Some(watermarks), true) = (&self.watermarks, decoded.num_rows() > 0) {
                    let watermarks = watermarks(&decoded.rows)?;
                    self.inner.report_watermarks(&self.messages, &watermarks);
                }
                Ok(SourceEvent::Batch(decoded))
            }
            other => Ok(other),
        })
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        self.inner.snapshot(checkpoint_id)
    }

    fn position(&self) -> Option<String> {
        self.inner.position()
    }

    fn align_splits(&mut self, max_watermark_ms: i64) -> bool {
        self.inner.align_splits(max_watermark_ms)
    }

    fn on_checkpoint_end(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), ConnectorError> {
        self.inner.on_checkpoint_end(checkpoint_id, completed)
    }

    fn awaits_checkpoint(&self) -> bool {
        self.inner.awaits_checkpoint()
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_close(cx)
    }

    fn gauges(&self) -> Vec<Gauge> {
        let ignored = self.value.ignored() + self.key.as_ref().map_or(0, |key| key.ignored());
        let mut gauges = self.inner.gauges();
        gauges.push(("numRecordsInErrors", ignored as f64));
        gauges
    }
}
