//! One block: a record batch as Arrow IPC messages, without its schema.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message,
};
use bytes::Bytes;

use super::damaged;
use super::footer::BlockEntry;
use crate::snapshot::CHANGE_COLUMN;
use crate::{StateError, TableDescriptor};

/// Encodes and decodes the blocks of one table.
pub(crate) struct BlockCodec {
    plain: Variant,
    with_changes: Variant,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

/// With or without `$change`.
struct Variant {
    schema: SchemaRef,
    message: Buffer,
}

/// A block's bytes and what the index says of them; table, key groups and offset are the caller's.
pub(crate) struct EncodedBlock {
    pub(crate) bytes: Vec<u8>,
    pub(crate) entry: BlockEntry,
}

impl BlockCodec {
    pub(crate) fn new(descriptor: &TableDescriptor) -> Result<Self, StateError> {
        Ok(Self {
            plain: Variant::new(descriptor, false)?,
            with_changes: Variant::new(descriptor, true)?,
            options: options()?,
            context: IpcWriteContext::default(),
        })
    }

    /// The columns of blocks with or without `$change`.
    pub(crate) fn schema(&self, changes: bool) -> &SchemaRef {
        &self.variant(changes).schema
    }

    fn variant(&self, changes: bool) -> &Variant {
        match changes {
            true => &self.with_changes,
            false => &self.plain,
        }
    }

    /// A batch of [`Self::schema`].
    pub(crate) fn encode(&mut self, batch: &RecordBatch, changes: bool) -> Result<EncodedBlock, StateError> {
        let failed = |source| StateError::Arrow {
            step: "encoding a block",
            source,
        };
        let mut dictionaries = DictionaryTracker::new(false);
        let generator = IpcDataGenerator::default();
        // Numbers the dictionaries as the reader will.
        generator.schema_to_bytes_with_dictionary_tracker(
            self.schema(changes),
            &mut dictionaries,
            &self.options,
        );
        let (before, message) = generator
            .encode(batch, &mut dictionaries, &self.options, &mut self.context)
            .map_err(failed)?;
        let mut raw = Vec::with_capacity(message.arrow_data.len() + 512);
        for message in before.into_iter().chain([message]) {
            write_message(&mut raw, message, &self.options).map_err(failed)?;
        }
        let rows = batch.num_rows() as u32;
        let raw_length = u32::try_from(raw.len()).map_err(|_| StateError::Memory {
            message: format!(
                "{rows} row(s) of state take {} bytes; the most is 4 GiB",
                raw.len()
            ),
        })?;
        let compressed = lz4_flex::block::compress(&raw);
        // Text and counters shrink by half and more; hashes and floats don't, and are then read faster as they are.
        let (bytes, raw_length) = match compressed.len() < raw.len() / 8 * 7 {
            true => (compressed, raw_length),
            false => (raw, 0),
        };
        let entry = BlockEntry {
            length: bytes.len() as u32,
            raw_length,
            rows,
            crc32c: crc32c::crc32c(&bytes),
            changes,
            ..BlockEntry::default()
        };
        Ok(EncodedBlock { bytes, entry })
    }

    /// A block's batch, of [`Self::schema`].
    pub(crate) fn decode(
        &self,
        file: &str,
        entry: &BlockEntry,
        stored: Bytes,
    ) -> Result<RecordBatch, StateError> {
        let damaged = |what: &str| damaged(file, format!("block at byte {}: {what}", entry.offset));
        if stored.len() != entry.length as usize {
            return Err(damaged("the file ends in the middle of it"));
        }
        if crc32c::crc32c(&stored) != entry.crc32c {
            return Err(damaged("its checksum differs"));
        }
        let mut body = match entry.raw_length {
            0 => Buffer::from(stored),
            raw_length => {
                let raw = lz4_flex::block::decompress(&stored, raw_length as usize);
                Buffer::from_vec(raw.map_err(|error| damaged(&error.to_string()))?)
            }
        };
        let malformed = |error: ArrowError| damaged(&error.to_string());
        let mut decoder = StreamDecoder::new();
        let mut schema = self.variant(entry.changes).message.clone();
        decoder.decode(&mut schema).map_err(malformed)?;
        let mut batch = decoder.decode(&mut body).map_err(malformed)?;
        if batch.is_none() {
            batch = decoder.decode(&mut end()).map_err(malformed)?;
        }
        match batch {
            Some(batch) if batch.num_rows() == entry.rows as usize => Ok(batch),
            _ => Err(damaged("it lacks rows")),
        }
    }
}

impl Variant {
    fn new(descriptor: &TableDescriptor, changes: bool) -> Result<Self, StateError> {
        let nullable = |field: &FieldRef| Arc::new(Field::clone(field).with_nullable(true));
        let change = changes.then(|| Arc::new(Field::new(CHANGE_COLUMN, DataType::Int8, false)));
        let fields: Vec<FieldRef> = change
            .into_iter()
            .chain(descriptor.key.iter().cloned())
            .chain(descriptor.sub_key.iter().map(nullable))
            .chain(descriptor.value.iter().map(nullable))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(Self {
            message: Buffer::from_vec(encode_schema(&schema)?),
            schema,
        })
    }
}

fn options() -> Result<IpcWriteOptions, StateError> {
    IpcWriteOptions::try_new(8, false, MetadataVersion::V5).map_err(|source| StateError::Arrow {
        step: "setting up the encoding",
        source,
    })
}

/// A schema as one IPC message.
pub(crate) fn encode_schema(schema: &Schema) -> Result<Vec<u8>, StateError> {
    let options = options()?;
    let mut dictionaries = DictionaryTracker::new(false);
    let message = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut dictionaries,
        &options,
    );
    let mut bytes = Vec::new();
    write_message(&mut bytes, message, &options).map_err(|source| StateError::Arrow {
        step: "encoding a schema",
        source,
    })?;
    Ok(bytes)
}

/// The end of a stream: the decoder takes a message without a body only when something comes behind it.
fn end() -> Buffer {
    Buffer::from(&[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0])
}

pub(crate) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, ArrowError> {
    let mut decoder = StreamDecoder::new();
    decoder.decode(&mut Buffer::from(bytes))?;
    decoder.decode(&mut end())?;
    decoder
        .schema()
        .ok_or_else(|| ArrowError::IpcError("the schema is cut off".to_owned()))
}
