//! A sink of messages, written by a format.
//!
//! ```text
//!   the table's columns --encoders--> value | key | bucket --> inner sink
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType as Arrow, Field as ArrowField, Schema as ArrowSchema, SchemaRef, TimestampMillisecondType,
};
use thalweg_formats::{Encoder, Format, Messages};
use thalweg_plan::Field;
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use crate::kafka::NO_TIMESTAMP;
use crate::{Committable, ConnectorContext, ConnectorError, Gauge, Sink, SinkWriter, StateDistribution};

/// Columns of the inner sink.
pub(crate) const VALUE: &str = "value";
pub(crate) const KEY: &str = "key";
pub(crate) const BUCKET: &str = "bucket";
pub(crate) const HEADERS: &str = "headers";

/// Columns of the input that become a message, and how.
pub(crate) struct Part {
    pub(crate) format: Format,
    pub(crate) fields: Vec<Field>,
    /// Their positions in the input.
    pub(crate) columns: Vec<usize>,
}

/// Writes the bucket of each row.
pub(crate) type Buckets = Arc<dyn Fn(&RecordBatch) -> Result<StringArray, ConnectorError> + Send + Sync>;

/// How rows become messages.
pub(crate) struct Encoding {
    pub(crate) value: Part,
    pub(crate) key: Option<Part>,
    pub(crate) buckets: Option<Buckets>,
    /// The input column of records' times, TIMESTAMP_LTZ(3).
    pub(crate) timestamp: Option<usize>,
    /// The input column of records' headers, MAP<STRING, BYTES>, and its type.
    pub(crate) headers: Option<(usize, Arrow)>,
    /// -U and -D have no value.
    pub(crate) tombstones: bool,
}

/// A sink that gives messages to `inner`.
pub(crate) struct EncodingSink {
    pub(crate) inner: Arc<dyn Sink>,
    pub(crate) encoding: Arc<Encoding>,
}

impl Encoding {
    fn schema(&self) -> SchemaRef {
        let mut fields = vec![ArrowField::new(VALUE, Arrow::Binary, true)];
        if self.key.is_some() {
            fields.push(ArrowField::new(KEY, Arrow::Binary, true));
        }
        if let Some((_, data_type)) = &self.headers {
            fields.push(ArrowField::new(HEADERS, data_type.clone(), true));
        }
        if self.buckets.is_some() {
            fields.push(ArrowField::new(BUCKET, Arrow::Utf8, false));
        }
        Arc::new(ArrowSchema::new(fields))
    }
}

impl Sink for EncodingSink {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn validate(&self, _input: &SchemaRef) -> Result<(), ConnectorError> {
        self.inner.validate(&self.encoding.schema())
    }

    fn exclusive_name(&self) -> Option<String> {
        self.inner.exclusive_name()
    }

    fn create_writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        let encoder = |part: &Part| part.format.encoder(&part.fields);
        Ok(Box::new(EncodingWriter {
            inner: self.inner.create_writer(context)?,
            value: encoder(&self.encoding.value),
            key: self.encoding.key.as_ref().map(encoder),
            schema: self.encoding.schema(),
            encoding: Arc::clone(&self.encoding),
            messages: Messages::default(),
            pending: None,
        }))
    }
}

struct EncodingWriter {
    inner: Box<dyn SinkWriter>,
    value: Box<dyn Encoder>,
    key: Option<Box<dyn Encoder>>,
    schema: SchemaRef,
    encoding: Arc<Encoding>,
    messages: Messages,
    /// What the inner sink had no room for: the caller comes again with the same rows.
    pending: Option<StreamBatch>,
}

fn messages_of(
    encoder: &mut dyn Encoder,
    part: &Part,
    batch: &StreamBatch,
    kinds: Option<&Int8Array>,
    messages: &mut Messages,
) -> Result<BinaryArray, ConnectorError> {
    let columns: Vec<ArrayRef> = part
        .columns
        .iter()
        .map(|column| Arc::clone(batch.rows.column(*column)))
        .collect();
    encoder
        .encode(&columns, batch.num_rows(), kinds, messages)
        .map_err(|error| {
            let kind = part.format.kind().name();
            ConnectorError::Malformed(format!("rows can't be written as {kind}: {error}"))
        })?;
    Ok(messages.finish())
}

/// Without values where rows are gone.
fn with_tombstones(values: BinaryArray, kinds: &Int8Array) -> BinaryArray {
    let is_there = |kind: &i8| *kind != RowKind::UpdateBefore as i8 && *kind != RowKind::Delete as i8;
    let there: NullBuffer = kinds.values().iter().map(is_there).collect();
    let (offsets, bytes, nulls) = values.into_parts();
    BinaryArray::new(offsets, bytes, NullBuffer::union(nulls.as_ref(), Some(&there)))
}

impl EncodingWriter {
    fn encode(&mut self, batch: &StreamBatch) -> Result<StreamBatch, ConnectorError> {
        let encoding = Arc::clone(&self.encoding);
        let kinds = batch.kinds.as_ref().filter(|_| !encoding.tombstones);
        let mut values = messages_of(
            self.value.as_mut(),
            &encoding.value,
            batch,
            kinds,
            &mut self.messages,
        )?;
        if let (true, Some(kinds)) = (encoding.tombstones, &batch.kinds) {
            values = with_tombstones(values, kinds);
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(values)];
        if let (Some(encoder), Some(part)) = (&mut self.key, &encoding.key) {
            let keys = messages_of(encoder.as_mut(), part, batch, None, &mut self.messages)?;
            columns.push(Arc::new(keys));
        }
        if let Some((column, _)) = &encoding.headers {
            columns.push(Arc::clone(batch.rows.column(*column)));
        }
        if let Some(buckets) = &encoding.buckets {
            columns.push(Arc::new(buckets(&batch.rows)?));
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| ConnectorError::Malformed(format!("messages make no batch: {error}")))?;
        let mut encoded = StreamBatch::new(rows);
        encoded.watermarks.clone_from(&batch.watermarks);
        encoded.timestamps = encoding
            .timestamp
            .map(|column| record_times(batch.rows.column(column)));
        Ok(encoded)
    }
}

fn record_times(column: &ArrayRef) -> Int64Array {
    match column.as_primitive_opt::<TimestampMillisecondType>() {
        Some(times) => times
            .iter()
            .map(|time| Some(time.unwrap_or(NO_TIMESTAMP)))
            .collect(),
        None => Int64Array::from(vec![NO_TIMESTAMP; column.len()]),
    }
}

/// The rows that are left.
fn rest(batch: &StreamBatch, taken: usize) -> StreamBatch {
    let left: Range<usize> = taken..batch.num_rows();
    batch.slice(left.start, left.len())
}

impl SinkWriter for EncodingWriter {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        self.inner.poll_ready(cx)
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        let pending = self
            .pending
            .take()
            .filter(|pending| pending.num_rows() == batch.num_rows());
        let encoded = match pending {
            Some(pending) => pending,
            None => self.encode(batch)?,
        };
        let taken = self.inner.write(&encoded)?;
        if taken < encoded.num_rows() {
            self.pending = Some(rest(&encoded, taken));
        }
        Ok(taken)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, end_of_input: bool) -> Poll<Result<(), ConnectorError>> {
        self.inner.poll_flush(cx, end_of_input)
    }

    fn prepare_commit(&mut self, checkpoint_id: u64) -> Result<Vec<Committable>, ConnectorError> {
        self.inner.prepare_commit(checkpoint_id)
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        self.inner.snapshot(checkpoint_id)
    }

    fn snapshot_distribution(&self) -> StateDistribution {
        self.inner.snapshot_distribution()
    }

    fn poll_commit(
        &mut self,
        cx: &mut Context<'_>,
        committables: &[Committable],
    ) -> Poll<Result<(), ConnectorError>> {
        self.inner.poll_commit(cx, committables)
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.inner.gauges()
    }
}
