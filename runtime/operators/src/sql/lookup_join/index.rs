//! All rows of a table by key, in columns.
//!
//! ```text
//!   batches --concat--> chunks; a row's number counts through them
//!   key columns --hash--> bucket: its first row, and of each row the next one of its bucket, in the table's order
//! ```
//!
//! Invariants: the first chunk is one row of nulls, which stands for "no row"; a row whose key has a null that equals nothing is in no bucket.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{concat_batches, interleave};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use thalweg_types::key_hash::hash_rows;

use super::super::output::record_batch;
use super::super::pairs::unmatched;

/// No row: ends a bucket, and is what a row without a partner is joined with.
pub(super) const NONE: u32 = u32::MAX;
/// Texts of one column of a chunk stay below what their offsets can count.
const CHUNK_BYTES: usize = 512 << 20;
/// Beside a row's columns and key: its hash, its link, its part of the buckets.
const LINK_BYTES: usize = 24;

/// How keys are compared.
pub(super) struct Keys {
    converter: RowConverter,
    /// Of the table.
    columns: Vec<usize>,
    null_safe: Vec<bool>,
}

/// Keys of some rows.
pub(super) struct KeyRows {
    encoded: Rows,
    hashes: Vec<u64>,
    /// Those that equal nothing.
    unmatched: Option<Vec<bool>>,
}

impl Keys {
    /// Of these columns of a table.
    pub(super) fn new(
        schema: &SchemaRef,
        columns: Vec<usize>,
        null_safe: Vec<bool>,
    ) -> Result<Self, ArrowError> {
        let field = |column: &usize| SortField::new(schema.field(*column).data_type().clone());
        Ok(Self {
            converter: RowConverter::new(columns.iter().map(field).collect())?,
            columns,
            null_safe,
        })
    }

    /// Of rows of either side.
    pub(super) fn of(&self, columns: &[ArrayRef], rows: usize) -> Result<KeyRows, ArrowError> {
        let mut hashes = Vec::new();
        hash_rows(columns, &mut hashes).map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
        Ok(KeyRows {
            encoded: self.converter.convert_columns(columns)?,
            hashes,
            unmatched: unmatched(columns, &self.null_safe, rows),
        })
    }

    fn of_table(&self, batch: &RecordBatch) -> Result<KeyRows, ArrowError> {
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|column| Arc::clone(batch.column(*column)))
            .collect();
        self.of(&columns, batch.num_rows())
    }
}

impl KeyRows {
    fn is_unmatched(&self, row: usize) -> bool {
        self.unmatched.as_ref().is_some_and(|unmatched| unmatched[row])
    }
}

/// See the module.
pub(super) struct Index {
    /// Behind the row of nulls.
    chunks: Vec<RecordBatch>,
    keys: Vec<KeyRows>,
    /// The number of each chunk's first row; of the first chunk of rows 0.
    starts: Vec<u32>,
    buckets: Vec<u32>,
    next: Vec<u32>,
}

/// What a table's rows take, with their index.
pub(super) fn bytes_of(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    let columns = columns.map(|column| {
        let column = column.to_data();
        // A slice is copied when chunks are made.
        column
            .get_slice_memory_size()
            .unwrap_or_else(|_| column.get_array_memory_size())
    });
    columns.sum::<usize>() + batch.num_rows() * LINK_BYTES
}

impl Index {
    /// Of all rows of a table.
    pub(super) fn new(
        schema: &SchemaRef,
        batches: Vec<RecordBatch>,
        keys: &Keys,
    ) -> Result<Self, ArrowError> {
        Self::in_chunks(schema, batches, keys, CHUNK_BYTES)
    }

    /// In chunks of about so many bytes.
    pub(super) fn in_chunks(
        schema: &SchemaRef,
        batches: Vec<RecordBatch>,
        keys: &Keys,
        chunk_bytes: usize,
    ) -> Result<Self, ArrowError> {
        let nulls = schema.fields().iter();
        let nulls: Vec<ArrayRef> = nulls.map(|field| new_null_array(field.data_type(), 1)).collect();
        let nulls = record_batch(schema, nulls, 1)?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if !u32::try_from(rows).is_ok_and(|rows| rows < NONE) {
            let message = format!("{rows} rows are more than a table can have that is looked up");
            return Err(ArrowError::ComputeError(message));
        }
        let mut index = Self {
            chunks: vec![nulls],
            keys: Vec::new(),
            starts: Vec::new(),
            buckets: vec![NONE; rows.next_power_of_two()],
            next: vec![NONE; rows],
        };
        index.add_all(schema, batches, keys, chunk_bytes)?;
        index.link();
        Ok(index)
    }

    fn add_all(
        &mut self,
        schema: &SchemaRef,
        batches: Vec<RecordBatch>,
        keys: &Keys,
        chunk_bytes: usize,
    ) -> Result<(), ArrowError> {
        let (mut waiting, mut bytes) = (Vec::new(), 0);
        for batch in batches {
            bytes += batch.get_array_memory_size();
            waiting.push(batch);
            if bytes >= chunk_bytes {
                self.add(concat_batches(schema, &std::mem::take(&mut waiting))?, keys)?;
                bytes = 0;
            }
        }
        self.add(concat_batches(schema, &waiting)?, keys)
    }

    fn add(&mut self, chunk: RecordBatch, keys: &Keys) -> Result<(), ArrowError> {
        let rows: usize = self.chunks[1..].iter().map(RecordBatch::num_rows).sum();
        self.starts.push(rows as u32);
        self.keys.push(keys.of_table(&chunk)?);
        self.chunks.push(chunk);
        Ok(())
    }

    /// From the last row to the first, so that a bucket's rows are in the table's order.
    fn link(&mut self) {
        let mask = self.buckets.len() - 1;
        for (keys, start) in self.keys.iter().zip(&self.starts).rev() {
            for (row, hash) in keys.hashes.iter().enumerate().rev() {
                if keys.is_unmatched(row) {
                    continue;
                }
                let bucket = &mut self.buckets[*hash as usize & mask];
                let number = start + row as u32;
                self.next[number as usize] = std::mem::replace(bucket, number);
            }
        }
    }

    /// The chunk, of those with keys, and the row in it.
    #[inline]
    fn place(&self, number: u32) -> (usize, usize) {
        let chunk = match self.starts.len() {
            1 => 0,
            _ => self.starts.partition_point(|start| *start <= number) - 1,
        };
        (chunk, (number - self.starts[chunk]) as usize)
    }

    /// The first row with the key of a row; [`NONE`].
    #[inline]
    pub(super) fn first(&self, keys: &KeyRows, row: usize) -> u32 {
        if keys.is_unmatched(row) {
            return NONE;
        }
        let bucket = keys.hashes[row] as usize & (self.buckets.len() - 1);
        self.equal_from(self.buckets[bucket], keys, row)
    }

    /// The row behind this one with the same key; [`NONE`].
    #[inline]
    pub(super) fn following(&self, number: u32, keys: &KeyRows, row: usize) -> u32 {
        self.equal_from(self.next[number as usize], keys, row)
    }

    #[inline]
    fn equal_from(&self, mut number: u32, keys: &KeyRows, row: usize) -> u32 {
        while number != NONE {
            let (chunk, place) = self.place(number);
            let own = &self.keys[chunk];
            if own.hashes[place] == keys.hashes[row]
                && own.encoded.row(place).data() == keys.encoded.row(row).data()
            {
                break;
            }
            number = self.next[number as usize];
        }
        number
    }

    /// Rows by their numbers, nulls for [`NONE`], as columns.
    pub(super) fn gather(&self, numbers: impl Iterator<Item = u32>) -> Result<Vec<ArrayRef>, ArrowError> {
        let place = |number| match number {
            NONE => (0, 0),
            number => {
                let (chunk, row) = self.place(number);
                (chunk + 1, row)
            }
        };
        let places: Vec<(usize, usize)> = numbers.map(place).collect();
        let column = |column: usize| {
            let chunks: Vec<_> = self
                .chunks
                .iter()
                .map(|chunk| chunk.column(column).as_ref())
                .collect();
            interleave(&chunks, &places)
        };
        (0..self.chunks[0].num_columns()).map(column).collect()
    }

    /// What it takes.
    pub(super) fn memory_size(&self) -> usize {
        let chunks = self.chunks.iter().map(RecordBatch::get_array_memory_size);
        let keys = self
            .keys
            .iter()
            .map(|keys| keys.encoded.size() + size_of_val(keys.hashes.as_slice()));
        chunks.chain(keys).sum::<usize>()
            + size_of_val(self.buckets.as_slice())
            + size_of_val(self.next.as_slice())
    }
}
