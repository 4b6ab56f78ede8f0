//! A record batch read as rows, and built from rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::{Record, RecordError};

/// The rows of a batch as `T`.
pub struct Rows<T: Record> {
    columns: T::Columns,
    len: usize,
}

impl<T: Record> Rows<T> {
    /// Checks the batch's columns once; more columns than `T` has are left alone.
    pub fn of(batch: &RecordBatch) -> Result<Self, RecordError> {
        Ok(Self {
            columns: T::columns(batch.columns(), None)?,
            len: batch.num_rows(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One row; panics if there are not as many.
    #[inline]
    pub fn get(&self, row: usize) -> T::Ref<'_> {
        T::row(&self.columns, row)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = T::Ref<'_>> {
        (0..self.len).map(|row| self.get(row))
    }
}

/// Builds record batches from rows.
pub struct RowsBuilder<T: Record> {
    schema: SchemaRef,
    builders: T::Builders,
    len: usize,
}

impl<T: Record> RowsBuilder<T> {
    /// Empty, with room for so many rows.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            schema: T::schema(),
            builders: T::builders(capacity),
            len: 0,
        }
    }

    /// Adds a row from borrowed values.
    #[inline]
    pub fn push_ref(&mut self, value: T::Ref<'_>) {
        T::push(&mut self.builders, value);
        self.len += 1;
    }

    /// Adds a row.
    #[inline]
    pub fn push(&mut self, value: &T) {
        self.push_ref(T::view(value));
    }

    /// Rows so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// About how many bytes of values it holds.
    #[inline]
    pub fn bytes(&self) -> usize {
        T::builders_bytes(&self.builders)
    }

    /// The columns' schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns; empty again, with room for as many rows.
    pub fn finish_columns(&mut self) -> Vec<ArrayRef> {
        let columns = T::finish_columns(&mut self.builders);
        self.builders = T::builders(self.len);
        self.len = 0;
        columns
    }

    /// The batch; empty again, with room for as many rows.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.len));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), self.finish_columns(), &options)
    }
}
