//! Puts a state file together, block after block, without holding it.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

use super::block::BlockCodec;
use super::footer::{Footer, TableEntry};
use super::{HEADER_BYTES, header};
use crate::{StateError, TableDescriptor};

/// Where a file's bytes go, in order. An error ends the encoding.
pub(crate) trait Sink {
    fn write(&mut self, bytes: Vec<u8>) -> Result<(), StateError>;
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: Vec<u8>) -> Result<(), StateError> {
        self.extend(bytes);
        Ok(())
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileSummary {
    pub(crate) bytes: u64,
    /// Changes of all kinds, or items.
    pub(crate) rows: u64,
}

/// A file being written: `begin_table`, `block`.. for each table, then `finish`.
pub(crate) struct FileBuilder<'sink> {
    sink: &'sink mut dyn Sink,
    footer: Footer,
    codec: Option<BlockCodec>,
    block_bytes: usize,
    offset: u64,
    last_group: Option<u32>,
}

/// A block's rows and what the index says about them.
pub(crate) struct BlockRows<'a> {
    /// Of [`BlockCodec::schema`].
    pub(crate) batch: RecordBatch,
    pub(crate) changes: bool,
    /// Key group of each row, ascending.
    pub(crate) groups: &'a [u32],
    /// Whether a row is an upsert.
    pub(crate) is_upsert: &'a dyn Fn(usize) -> bool,
}

impl<'sink> FileBuilder<'sink> {
    pub(crate) fn new(
        max_parallelism: u32,
        block_bytes: usize,
        sink: &'sink mut dyn Sink,
    ) -> Result<Self, StateError> {
        sink.write(header().to_vec())?;
        Ok(Self {
            sink,
            footer: Footer {
                max_parallelism,
                writer: env!("CARGO_PKG_VERSION").to_owned(),
                ..Footer::default()
            },
            codec: None,
            block_bytes,
            offset: HEADER_BYTES as u64,
            last_group: None,
        })
    }

    pub(crate) fn begin_table(&mut self, descriptor: &TableDescriptor) -> Result<&BlockCodec, StateError> {
        self.footer.tables.push(TableEntry::new(descriptor)?);
        self.last_group = None;
        Ok(self.codec.insert(BlockCodec::new(descriptor)?))
    }

    /// The columns of a block of the table begun last.
    pub(crate) fn schema(&self, changes: bool) -> SchemaRef {
        match &self.codec {
            Some(codec) => Arc::clone(codec.schema(changes)),
            None => Arc::new(Schema::empty()),
        }
    }

    /// Writes a block of the table begun last; in halves if it is far over `block_bytes`.
    pub(crate) fn block(&mut self, rows: &BlockRows<'_>) -> Result<(), StateError> {
        self.part_of_block(rows, 0, rows.batch.num_rows())
    }

    fn part_of_block(&mut self, rows: &BlockRows<'_>, from: usize, count: usize) -> Result<(), StateError> {
        if count == 0 {
            return Ok(());
        }
        let part = rows.batch.slice(from, count);
        if count > 1 && slice_bytes(&part) > 2 * self.block_bytes {
            let half = count / 2;
            self.part_of_block(rows, from, half)?;
            return self.part_of_block(rows, from + half, count - half);
        }
        let (Some(codec), Some(table)) = (&mut self.codec, self.footer.tables.last_mut()) else {
            return Ok(());
        };
        let mut encoded = codec.encode(&part, rows.changes)?;
        for (row, group) in rows.groups.iter().enumerate().skip(from).take(count) {
            match (rows.is_upsert)(row) {
                true => table.count(&mut self.last_group, *group, 1),
                false => table.deletes += 1,
            }
        }
        encoded.entry.table = self.footer.tables.len() as u32 - 1;
        encoded.entry.offset = self.offset;
        encoded.entry.first_group = rows.groups[from];
        encoded.entry.last_group = rows.groups[from + count - 1];
        self.offset += encoded.bytes.len() as u64;
        self.footer.blocks.push(encoded.entry);
        self.sink.write(encoded.bytes)
    }

    pub(crate) fn finish(self) -> Result<FileSummary, StateError> {
        let rows = self
            .footer
            .tables
            .iter()
            .map(|table| table.rows + table.deletes)
            .sum();
        let end = self.footer.encode_with_trailer();
        let bytes = self.offset + end.len() as u64;
        self.sink.write(end)?;
        Ok(FileSummary { bytes, rows })
    }
}

/// Bytes of a batch's own rows, though its columns may be slices of longer ones.
fn slice_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(column_bytes).sum()
}

/// Bytes of a column's own rows.
pub(crate) fn column_bytes(column: &ArrayRef) -> usize {
    let data = column.to_data();
    data.get_slice_memory_size()
        .unwrap_or_else(|_| data.get_array_memory_size())
}
