//! Stream elements as bytes.
//!
//! ```text
//!   0 tag u8 | 1 columns u8 | 2 flags u8 | 3 zero | 4 rows u32 | 8 cuts u32 | 12 zero u32
//!   batch:   cuts of 16 bytes (row u32, zero u32, timestamp i64), then Arrow IPC messages
//!   barrier: checkpoint id u64, timestamp u64, options      latency marker: emitted u64, source (UTF-8)
//! ```
//!
//! Row kinds, timestamps and key hashes travel as columns behind the user's; `columns` says which are there. Each set of
//! them is an Arrow IPC stream of its own, so that the schema is sent once for each and again only if it changes (flag
//! `RESTART`). Everything is aligned to 16 bytes: the decoder's arrays point into the received buffer.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow::ipc::{MessageHeader, MetadataVersion, root_as_message};
use thalweg_types::element::CheckpointBarrier;
use thalweg_types::{StreamBatch, StreamElement, WatermarkCut};

use crate::coalesce::compact_views;
use crate::queue::ELEMENT_OVERHEAD;
use crate::wire::frame::Fields;

const HEADER_BYTES: usize = 16;
const CUT_BYTES: usize = 16;
const ALIGNMENT: usize = 16;
/// The largest element: above it a buffer can't be sent as one piece by everything below.
pub(crate) const MAX_ELEMENT_BYTES: usize = 1 << 30;
/// Pieces below this size are copied together: a system call handles few large pieces better than many small ones.
const SMALL_PIECE: usize = 1 << 10;

const BATCH: u8 = 0;
const BARRIER: u8 = 1;
const IDLE: u8 = 2;
const ACTIVE: u8 = 3;
const END_OF_INPUT: u8 = 4;
const LATENCY_MARKER: u8 = 5;

const KINDS: u8 = 1;
const TIMESTAMPS: u8 = 2;
const KEY_HASHES: u8 = 4;
const COLUMN_SETS: usize = 8;
const RESTART: u8 = 1;

/// Why an element can't be encoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error("{bytes} bytes, at most {limit} are allowed")]
    TooLarge { bytes: usize, limit: usize },
}

/// An element as it goes over the wire, in pieces; most are the batch's own buffers.
#[derive(Debug, Clone)]
pub(crate) struct EncodedElement {
    pub(crate) pieces: Vec<Buffer>,
    pub(crate) total: usize,
    /// Small and urgent: goes before the data of other channels.
    pub(crate) control: bool,
}

impl EncodedElement {
    /// Bytes of credit, as the receiver counts them, too.
    pub(crate) fn cost(&self) -> usize {
        self.total + ELEMENT_OVERHEAD
    }
}

/// One channel's encoder.
#[derive(Default)]
pub(crate) struct Encoder {
    streams: [Option<EncoderStream>; COLUMN_SETS],
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

struct EncoderStream {
    user_schema: SchemaRef,
    wire_schema: SchemaRef,
    encoder: StreamEncoder,
}

impl EncoderStream {
    fn new(user_schema: SchemaRef, columns: u8) -> Result<Self, ArrowError> {
        let mut fields: Vec<_> = user_schema.fields().iter().cloned().collect();
        let stream_columns = [
            (KINDS, "kind", DataType::Int8),
            (TIMESTAMPS, "timestamp", DataType::Int64),
            (KEY_HASHES, "key hash", DataType::UInt64),
        ];
        for (column, name, data_type) in stream_columns {
            if columns & column != 0 {
                fields.push(Arc::new(Field::new(name, data_type, true)));
            }
        }
        let wire_schema = Arc::new(Schema::new_with_metadata(fields, user_schema.metadata().clone()));
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
        let encoder = StreamEncoder::try_new_with_options(&wire_schema, options)?;
        Ok(Self {
            user_schema,
            wire_schema,
            encoder,
        })
    }
}

impl Encoder {
    pub(crate) fn encode(&mut self, element: &StreamElement) -> Result<EncodedElement, EncodeError> {
        let (tag, body) = match element {
            StreamElement::Batch(batch) => return self.encode_batch(batch),
            StreamElement::Barrier(barrier) => {
                let fields = [
                    &barrier.checkpoint_id.to_le_bytes()[..],
                    &barrier.timestamp_ms.to_le_bytes(),
                    &barrier.options,
                ];
                (BARRIER, fields.concat())
            }
            StreamElement::Idle => (IDLE, Vec::new()),
            StreamElement::Active => (ACTIVE, Vec::new()),
            StreamElement::EndOfInput => (END_OF_INPUT, Vec::new()),
            StreamElement::LatencyMarker { source, emitted_ms } => (
                LATENCY_MARKER,
                [&emitted_ms.to_le_bytes()[..], source.as_bytes()].concat(),
            ),
        };
        let mut bytes = header(tag, 0, 0, 0, 0);
        bytes.extend_from_slice(&body);
        Ok(EncodedElement {
            total: bytes.len(),
            pieces: vec![Buffer::from_vec(bytes)],
            control: true,
        })
    }

    fn encode_batch(&mut self, batch: &StreamBatch) -> Result<EncodedElement, EncodeError> {
        let columns = u8::from(batch.kinds.is_some()) * KINDS
            + u8::from(batch.timestamps.is_some()) * TIMESTAMPS
            + u8::from(batch.key_hashes.is_some()) * KEY_HASHES;
        let schema = batch.rows.schema_ref();
        let is_known = |stream: &EncoderStream| {
            Arc::ptr_eq(&stream.user_schema, schema) || stream.user_schema == *schema
        };
        // Put back only behind a success: else the receiver would not know what this stream believes to have sent.
        let known = self.streams[usize::from(columns)].take().filter(is_known);
        let flags = if known.is_some() { 0 } else { RESTART };
        let mut stream = match known {
            Some(stream) => stream,
            None => EncoderStream::new(schema.clone(), columns)?,
        };
        let rows = wire_rows(batch, stream.wire_schema.clone())?;
        let header = header(BATCH, columns, flags, batch.num_rows(), batch.watermarks.len());
        let mut pieces = Pieces::new(header, &batch.watermarks);
        stream
            .encoder
            .encode(&rows)?
            .into_iter()
            .for_each(|piece| pieces.push(piece));
        let (pieces, total) = pieces.finish();
        if total > MAX_ELEMENT_BYTES {
            return Err(EncodeError::TooLarge {
                bytes: total,
                limit: MAX_ELEMENT_BYTES,
            });
        }
        self.streams[usize::from(columns)] = Some(stream);
        Ok(EncodedElement {
            pieces,
            total,
            control: false,
        })
    }
}

fn header(tag: u8, columns: u8, flags: u8, rows: usize, cuts: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * SMALL_PIECE);
    bytes.extend_from_slice(&[tag, columns, flags, 0]);
    bytes.extend_from_slice(&(rows as u32).to_le_bytes());
    bytes.extend_from_slice(&(cuts as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// The user's columns and the stream columns in one batch.
fn wire_rows(batch: &StreamBatch, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
    let mut columns: Vec<ArrayRef> = compact_views(batch.rows.clone()).columns().to_vec();
    columns.extend(
        batch
            .kinds
            .iter()
            .map(|column| Arc::new(column.clone()) as ArrayRef),
    );
    columns.extend(
        batch
            .timestamps
            .iter()
            .map(|column| Arc::new(column.clone()) as ArrayRef),
    );
    columns.extend(
        batch
            .key_hashes
            .iter()
            .map(|column| Arc::new(column.clone()) as ArrayRef),
    );
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

/// Collects pieces and copies small neighbours together.
struct Pieces {
    pieces: Vec<Buffer>,
    small: Vec<u8>,
    total: usize,
}

impl Pieces {
    fn new(mut header: Vec<u8>, watermarks: &[WatermarkCut]) -> Self {
        for cut in watermarks {
            header.extend_from_slice(&cut.row.to_le_bytes());
            header.extend_from_slice(&[0; 4]);
            header.extend_from_slice(&cut.timestamp_ms.to_le_bytes());
        }
        Self {
            total: header.len(),
            small: header,
            pieces: Vec::new(),
        }
    }

    fn push(&mut self, piece: Buffer) {
        self.total += piece.len();
        if piece.len() < SMALL_PIECE {
            self.small.extend_from_slice(&piece);
        } else {
            self.flush();
            self.pieces.push(piece);
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.pieces
                .push(Buffer::from_vec(std::mem::take(&mut self.small)));
        }
    }

    fn finish(mut self) -> (Vec<Buffer>, usize) {
        self.flush();
        (self.pieces, self.total)
    }
}

/// An element as it came; decoded by the task that takes it.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedElement {
    bytes: Buffer,
}

impl ReceivedElement {
    /// All bytes of an element; `None` if they are too few for one.
    pub(crate) fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() >= HEADER_BYTES).then(|| Self {
            bytes: Buffer::from_vec(bytes),
        })
    }

    pub(crate) fn is_barrier(&self) -> bool {
        self.bytes[0] == BARRIER
    }

    pub(crate) fn is_end_of_input(&self) -> bool {
        self.bytes[0] == END_OF_INPUT
    }

    /// Bytes of credit, as the sender counts them, too.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + ELEMENT_OVERHEAD
    }

    /// Number of rows; `None` for a control element.
    pub(crate) fn batch_rows(&self) -> Option<usize> {
        (self.bytes[0] == BATCH).then(|| Fields(&self.bytes[4..]).u32() as usize)
    }
}

/// One channel's decoder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decoder {
    streams: [DecoderStream; COLUMN_SETS],
}

#[derive(Debug, Clone, Default)]
struct DecoderStream {
    /// With the stream columns, as it came.
    wire_schema: Option<SchemaRef>,
    user_schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl Decoder {
    pub(crate) fn decode(&mut self, element: &ReceivedElement) -> Result<StreamElement, ArrowError> {
        let bytes = &element.bytes;
        let mut fields = Fields(&bytes[HEADER_BYTES..]);
        Ok(match bytes[0] {
            BATCH => StreamElement::Batch(self.decode_batch(bytes)?),
            BARRIER => {
                let (checkpoint_id, timestamp_ms) = (fields.u64(), fields.u64());
                StreamElement::Barrier(CheckpointBarrier {
                    checkpoint_id,
                    timestamp_ms,
                    options: fields.0.into(),
                })
            }
            IDLE => StreamElement::Idle,
            ACTIVE => StreamElement::Active,
            END_OF_INPUT => StreamElement::EndOfInput,
            LATENCY_MARKER => {
                let emitted_ms = fields.u64();
                StreamElement::LatencyMarker {
                    source: String::from_utf8_lossy(fields.0).into(),
                    emitted_ms,
                }
            }
            other => return Err(malformed(format!("unknown element {other}"))),
        })
    }

    fn decode_batch(&mut self, bytes: &Buffer) -> Result<StreamBatch, ArrowError> {
        let columns = bytes[1];
        let Some(stream) = self.streams.get_mut(usize::from(columns)) else {
            return Err(malformed(format!("unknown stream columns {columns}")));
        };
        if bytes[2] & RESTART != 0 {
            *stream = DecoderStream::default();
        }
        let cuts = Fields(&bytes[8..]).u32() as usize;
        let messages = HEADER_BYTES + cuts * CUT_BYTES;
        if messages > bytes.len() {
            return Err(malformed("the element is too short for its watermarks"));
        }
        let mut fields = Fields(&bytes[HEADER_BYTES..messages]);
        let watermarks = (0..cuts).map(|_| {
            let (row, _) = (fields.u32(), fields.u32());
            WatermarkCut {
                row,
                timestamp_ms: fields.i64(),
            }
        });
        let watermarks: Vec<_> = watermarks.collect();
        let rows = stream
            .read(bytes.slice(messages))?
            .ok_or_else(|| malformed("no record batch in it"))?;
        stream.split(&rows, columns, watermarks)
    }
}

impl DecoderStream {
    /// Reads Arrow IPC messages up to the end: a schema at first, dictionaries, one record batch.
    fn read(&mut self, mut messages: Buffer) -> Result<Option<RecordBatch>, ArrowError> {
        let mut rows = None;
        while !messages.is_empty() {
            let metadata = Fields(messages.get(4..8).unwrap_or_default()).u32() as usize;
            if messages.len() < 8 + metadata {
                return Err(malformed("a message is longer than its element"));
            }
            let head = messages.slice_with_length(8, metadata);
            let message = root_as_message(&head).map_err(|error| malformed(error.to_string()))?;
            let body_length = usize::try_from(message.bodyLength()).unwrap_or(usize::MAX);
            if messages.len() - 8 - metadata < body_length {
                return Err(malformed("a message's body is longer than its element"));
            }
            let body = messages.slice_with_length(8 + metadata, body_length);
            let missing = || malformed("a message without its content");
            match message.header_type() {
                MessageHeader::Schema => {
                    let schema = fb_to_schema(message.header_as_schema().ok_or_else(missing)?);
                    self.wire_schema = Some(Arc::new(schema));
                }
                MessageHeader::DictionaryBatch => {
                    let dictionary = message.header_as_dictionary_batch().ok_or_else(missing)?;
                    let schema = self.schema()?;
                    read_dictionary(
                        &body,
                        dictionary,
                        &schema,
                        &mut self.dictionaries,
                        &message.version(),
                    )?;
                }
                MessageHeader::RecordBatch => {
                    let batch = message.header_as_record_batch().ok_or_else(missing)?;
                    let schema = self.schema()?;
                    let version = message.version();
                    let decoder =
                        RecordBatchDecoder::try_new(&body, batch, schema, &self.dictionaries, &version)?;
                    rows = Some(decoder.read_record_batch()?);
                }
                other => return Err(malformed(format!("unexpected message {other:?}"))),
            }
            messages = messages.slice(8 + metadata + body_length);
        }
        Ok(rows)
    }

    fn schema(&self) -> Result<SchemaRef, ArrowError> {
        self.wire_schema
            .clone()
            .ok_or_else(|| malformed("no schema was sent yet"))
    }

    /// Takes the stream columns off again.
    fn split(
        &mut self,
        rows: &RecordBatch,
        columns: u8,
        watermarks: Vec<WatermarkCut>,
    ) -> Result<StreamBatch, ArrowError> {
        let users = (rows.num_columns())
            .checked_sub(columns.count_ones() as usize)
            .ok_or_else(|| malformed("stream columns are missing"))?;
        let user_schema = self.user_schema.get_or_insert_with(|| {
            let schema = rows.schema();
            Arc::new(Schema::new_with_metadata(
                schema.fields()[..users].to_vec(),
                schema.metadata().clone(),
            ))
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let (users, stream) = rows.columns().split_at(users);
        let mut stream = stream.iter();
        let mut next = |column: u8| {
            if columns & column != 0 {
                stream.next()
            } else {
                None
            }
        };
        let wrong = |name| move || malformed(format!("the {name} column has another type"));
        let (kinds, timestamps, key_hashes) = (next(KINDS), next(TIMESTAMPS), next(KEY_HASHES));
        Ok(StreamBatch {
            rows: RecordBatch::try_new_with_options(user_schema.clone(), users.to_vec(), &options)?,
            kinds: kinds
                .map(|c| {
                    c.as_primitive_opt::<Int8Type>()
                        .cloned()
                        .ok_or_else(wrong("kind"))
                })
                .transpose()?,
            timestamps: timestamps
                .map(|c| {
                    c.as_primitive_opt::<Int64Type>()
                        .cloned()
                        .ok_or_else(wrong("timestamp"))
                })
                .transpose()?,
            key_hashes: key_hashes
                .map(|c| {
                    c.as_primitive_opt::<UInt64Type>()
                        .cloned()
                        .ok_or_else(wrong("key hash"))
                })
                .transpose()?,
            watermarks,
        })
    }
}

fn malformed(detail: impl Into<String>) -> ArrowError {
    ArrowError::IpcError(detail.into())
}

#[cfg(test)]
mod tests;
