//! Writing a container file.

use arrow::array::ArrayRef;
use thalweg_plan::Field;

use super::codec::AvroCodec;
use super::table_schema::schema_of;
use super::{CODEC, MAGIC, SCHEMA, SYNC_BYTES};
use crate::FormatError;
use crate::avro::{write_long, write_text, write_value};

/// A block ends when it is so large: Avro's default.
const BLOCK_BYTES: usize = 64_000;

/// Turns rows into the bytes of one file.
pub struct AvroFileWriter {
    fields: Vec<Field>,
    codec: AvroCodec,
    sync: [u8; SYNC_BYTES],
    /// Behind the header.
    begun: bool,
    legacy_timestamps: bool,
    /// Of the block under way.
    block: Vec<u8>,
    records: i64,
}

impl AvroFileWriter {
    /// For rows of these columns; `sync` are random bytes.
    pub fn new(fields: &[Field], codec: AvroCodec, legacy_timestamps: bool, sync: [u8; SYNC_BYTES]) -> Self {
        Self {
            fields: fields.to_vec(),
            codec,
            sync,
            begun: false,
            legacy_timestamps,
            block: Vec::new(),
            records: 0,
        }
    }

    /// Takes rows; appends the blocks that are full.
    pub fn write(&mut self, columns: &[ArrayRef], rows: usize, out: &mut Vec<u8>) -> Result<(), FormatError> {
        self.begin(out);
        for row in 0..rows {
            for (field, column) in self.fields.iter().zip(columns) {
                write_value(column.as_ref(), row, &field.data_type, &mut self.block)
                    .map_err(|error| error.in_field(&field.name))?;
            }
            self.records += 1;
            if self.block.len() >= BLOCK_BYTES {
                self.end_block(out)?;
            }
        }
        Ok(())
    }

    /// Bytes of the block under way.
    pub fn buffered(&self) -> usize {
        self.block.len()
    }

    /// Appends the rest of the file.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        self.begin(out);
        self.end_block(out)
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        out.extend_from_slice(MAGIC);
        let schema = schema_of(&self.fields, self.legacy_timestamps);
        let metadata = [(SCHEMA, schema.as_str()), (CODEC, self.codec.name())];
        write_long(out, metadata.len() as i64);
        for (key, value) in metadata {
            write_text(out, key.as_bytes());
            write_text(out, value.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&self.sync);
    }

    fn end_block(&mut self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        if self.records == 0 {
            return Ok(());
        }
        write_long(out, std::mem::take(&mut self.records));
        let mut compressed = Vec::new();
        self.codec.compress(&self.block, &mut compressed)?;
        self.block.clear();
        write_text(out, &compressed);
        out.extend_from_slice(&self.sync);
        Ok(())
    }
}
