//! Flink's rolling aggregations of a KeyedStream: `sum`, `min`, `max` of one column, emitted for every record.
//!
//! ```text
//!   batch --KeyIndex--> slot a row --fold values into accumulators[slot]--> running value a row
//!                         |
//!                         +-- rows of new keys -> first records, by slot
//!   output row = the key's first record with the column replaced by the running value
//! ```
//!
//! As in Flink, integers wrap at their type's bounds, and all other columns are those of the key's first record (`min` is
//! not `minBy`). A null adds nothing: the running value stays null until the key's first value (Flink would throw).
//! Invariant: accumulators, first records and key slots are as many.

mod accumulator;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use thalweg_types::StreamBatch;

use crate::key_index::{KeyIndex, Slot};
use crate::row_store::ColumnStore;
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};
use accumulator::Accumulator;

/// What is computed of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Flink's `sum`.
    Sum,
    /// Flink's `min`.
    Min,
    /// Flink's `max`.
    Max,
}

impl Aggregation {
    /// Whether it can aggregate columns of this type.
    pub fn supports(self, data_type: &DataType) -> bool {
        accumulator::new(self, data_type).is_some()
    }
}

/// Which columns play which part; indices into the input.
#[derive(Debug, Clone)]
pub struct RollingColumns {
    /// The output's schema: the input's first columns; computed keys behind them are left out.
    pub schema: SchemaRef,
    /// The key.
    pub keys: Vec<usize>,
    /// The aggregated column.
    pub field: usize,
}

/// A rolling aggregation over keyed rows.
pub struct RollingAggregate {
    context: OperatorContext,
    columns: RollingColumns,
    state: RollingState,
    pending: Option<(StreamBatch, usize)>,
    slots: Vec<Slot>,
    new_rows: Vec<u32>,
}

/// What is remembered by key.
struct RollingState {
    index: KeyIndex,
    accumulator: Box<dyn Accumulator>,
    /// Of each output column: the first records' values, unless the row itself has them (key columns, the aggregate).
    first: Vec<Option<ColumnStore>>,
}

impl RollingAggregate {
    /// An operator without state; [`OperatorError::Input`] if the columns can't be keys or can't be aggregated.
    pub fn new(
        context: OperatorContext,
        columns: RollingColumns,
        key_types: &[DataType],
        aggregation: Aggregation,
    ) -> Result<Self, OperatorError> {
        let refused = |message| OperatorError::Input {
            operator: context.operator_name.to_string(),
            message,
        };
        let field = columns.schema.field(columns.field);
        let accumulator = accumulator::new(aggregation, field.data_type()).ok_or_else(|| {
            refused(format!(
                "{} of column {:?} can't be aggregated",
                field.data_type(),
                field.name()
            ))
        })?;
        let index = KeyIndex::new(key_types).map_err(|error| refused(error.to_string()))?;
        let store = |column| ColumnStore::new(columns.schema.field(column).data_type().clone());
        let first = (0..columns.schema.fields().len())
            .map(|column| columns.is_remembered(column).then(|| store(column)))
            .collect();
        Ok(Self {
            context,
            columns,
            state: RollingState {
                index,
                accumulator,
                first,
            },
            pending: None,
            slots: Vec::new(),
            new_rows: Vec::new(),
        })
    }

    /// Bytes of state held.
    pub fn memory_size(&self) -> usize {
        let first: usize = self
            .state
            .first
            .iter()
            .flatten()
            .map(ColumnStore::memory_size)
            .sum();
        self.state.index.memory_size() + self.state.accumulator.memory_size() + first
    }

    fn aggregate(&mut self, batch: StreamBatch) -> Result<StreamBatch, OperatorError> {
        let hashes = batch.key_hashes.as_ref().ok_or_else(|| OperatorError::Input {
            operator: self.context.operator_name.to_string(),
            message: "rows without key hashes came over a keyed edge".to_owned(),
        })?;
        debug_assert!(
            crate::keyed::owns_all(&self.context, hashes),
            "a row of another subtask's key group came to {}",
            self.context.task_name
        );
        let keys: Vec<ArrayRef> = self
            .columns
            .keys
            .iter()
            .map(|column| Arc::clone(batch.rows.column(*column)))
            .collect();
        self.state
            .index
            .slots(&keys, hashes, &mut self.slots, &mut self.new_rows)
            .map_err(|error| crate::keyed::index_error(&self.context, error))?;
        let rows = self
            .output_rows(&batch.rows)
            .map_err(|source| OperatorError::Arrow {
                operator: self.context.operator_name.to_string(),
                source,
            })?;
        Ok(StreamBatch {
            key_hashes: None,
            ..batch.with_rows(rows)
        })
    }

    fn output_rows(&mut self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let new_rows = UInt32Array::from(std::mem::take(&mut self.new_rows));
        let mut output = Vec::with_capacity(self.columns.schema.fields().len());
        for (column, store) in self.state.first.iter_mut().enumerate() {
            let values = rows.column(column);
            output.push(match store {
                Some(store) => {
                    store.append(take(values, &new_rows, None)?)?;
                    store.gather(&self.slots)?
                }
                None if column == self.columns.field => {
                    self.state
                        .accumulator
                        .fold(values, &self.slots, self.state.index.len())?
                }
                None => Arc::clone(values),
            });
        }
        RecordBatch::try_new(Arc::clone(&self.columns.schema), output)
    }
}

impl RollingColumns {
    /// A key column equals its first record's by definition, so the row's own is as good and needs no state; not so
    /// floats (-0.0 is the same key as 0.0) and what may hold floats.
    fn is_remembered(&self, column: usize) -> bool {
        let exact = |data_type: &DataType| !data_type.is_floating() && !data_type.is_nested();
        let is_exact_key = self.keys.contains(&column) && exact(self.schema.field(column).data_type());
        column != self.field && !is_exact_key
    }
}

impl Operator for RollingAggregate {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some((batch, 0));
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        let Some((batch, offset)) = self.pending.take() else {
            return Ok(None);
        };
        let rows = limit.rows.max(1).min(batch.num_rows() - offset);
        let end = offset + rows;
        let piece = if rows == batch.num_rows() {
            batch
        } else {
            let piece = batch.slice(offset, rows);
            if end < batch.num_rows() {
                self.pending = Some((batch, end));
            }
            piece
        };
        self.aggregate(piece).map(Some)
    }
}

#[cfg(test)]
mod tests;
