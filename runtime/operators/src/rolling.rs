//! Flink's rolling aggregations of a KeyedStream: `sum`, `min`, `max` of one column, emitted for every record.
//!
//! ```text
//!   batch --KeyedState--> slot a row --fold values into accumulators[slot]--> running value a row
//!                           |
//!                           +-- rows of new keys -> first records, by slot
//!   output row = the key's first record with the column replaced by the running value
//! ```
//!
//! As in Flink, integers wrap at their type's bounds, and all other columns are those of the key's first record (`min` is
//! not `minBy`). A null adds nothing: the running value stays null until the key's first value (Flink would throw).
//! State: one table "rolling" of the running value and the remembered columns of the first record.

mod accumulator;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use thalweg_state::{
    ColumnHandle, ColumnStore, KeyedState, OperatorSnapshot, RestoredState, SlotColumn, SnapshotRequest,
};
use thalweg_types::StreamBatch;

use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit, Slot};
use accumulator::Accumulator;

/// The state's name in snapshots.
const TABLE: &str = "rolling";

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
    state: KeyedState,
    rolling: ColumnHandle<Rolling>,
    pending: Option<(StreamBatch, usize)>,
    slots: Vec<Slot>,
    new_rows: Vec<u32>,
}

/// What is remembered by key.
struct Rolling {
    schema: SchemaRef,
    field: usize,
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
        let field = columns.schema.field(columns.field);
        let accumulator =
            accumulator::new(aggregation, field.data_type()).ok_or_else(|| OperatorError::Input {
                operator: context.operator_name.to_string(),
                message: format!(
                    "{} of column {:?} can't be aggregated",
                    field.data_type(),
                    field.name()
                ),
            })?;
        let store = |column| ColumnStore::new(columns.schema.field(column).data_type().clone());
        let first = (0..columns.schema.fields().len())
            .map(|column| columns.is_remembered(column).then(|| store(column)))
            .collect();
        let mut state = keyed_state(&context, columns.key_fields(key_types))?;
        let rolling = Rolling {
            schema: Arc::clone(&columns.schema),
            field: columns.field,
            accumulator,
            first,
        };
        let rolling = state
            .register_columns(TABLE, rolling, None)
            .map_err(|source| state_error(&context, source))?;
        Ok(Self {
            context,
            columns,
            state,
            rolling,
            pending: None,
            slots: Vec::new(),
            new_rows: Vec::new(),
        })
    }

    fn aggregate(&mut self, batch: StreamBatch) -> Result<StreamBatch, OperatorError> {
        let (keys, hashes) = keys_of(&self.context, &batch, &self.columns.keys)?;
        let failed = |source| state_error(&self.context, source);
        // Nothing expires here, so that the clock doesn't matter.
        self.state
            .begin_batch(&keys, hashes, 0, &mut self.slots)
            .map_err(failed)?;
        let table = self.state.table(self.rolling);
        let rolling = table.write(&self.slots, &mut self.new_rows);
        let rows = rolling
            .output_rows(&batch.rows, &self.slots, &self.new_rows)
            .map_err(|source| OperatorError::Arrow {
                operator: self.context.operator_name.to_string(),
                source,
            })?;
        self.state.end_batch().map_err(failed)?;
        Ok(StreamBatch {
            key_hashes: None,
            ..batch.with_rows(rows)
        })
    }
}

impl Rolling {
    fn output_rows(
        &mut self,
        rows: &RecordBatch,
        slots: &[Slot],
        new_rows: &[u32],
    ) -> Result<RecordBatch, ArrowError> {
        let new_slots: Vec<Slot> = new_rows.iter().map(|row| slots[*row as usize]).collect();
        let new_rows = UInt32Array::from(new_rows.to_vec());
        let mut output = Vec::with_capacity(self.schema.fields().len());
        for (column, store) in self.first.iter_mut().enumerate() {
            let values = rows.column(column);
            output.push(match store {
                Some(store) => {
                    store.scatter(&new_slots, take(values, &new_rows, None)?)?;
                    store.gather(slots)?
                }
                None if column == self.field => self.accumulator.fold(values, slots)?,
                None => Arc::clone(values),
            });
        }
        RecordBatch::try_new(Arc::clone(&self.schema), output)
    }

    /// The columns that are state.
    fn is_kept(&self, column: usize) -> bool {
        column == self.field || self.first[column].is_some()
    }
}

impl SlotColumn for Rolling {
    fn fields(&self) -> Vec<FieldRef> {
        let fields = self.schema.fields().iter().enumerate();
        fields
            .filter(|(column, _)| self.is_kept(*column))
            .map(|(_, field)| Arc::clone(field))
            .collect()
    }

    fn resize(&mut self, count: usize) {
        self.accumulator.resize(count);
        self.first
            .iter_mut()
            .flatten()
            .for_each(|store| store.resize(count));
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let columns = (0..self.first.len()).filter(|column| self.is_kept(*column));
        columns
            .map(|column| match &self.first[column] {
                Some(store) => store.gather(slots),
                None => self.accumulator.gather(slots),
            })
            .collect()
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let field = self.field;
        let kept = self.first.iter_mut().enumerate();
        let kept = kept.filter(|(column, store)| *column == field || store.is_some());
        for ((_, store), values) in kept.zip(columns) {
            match store {
                Some(store) => store.scatter(slots, Arc::clone(values))?,
                None => self.accumulator.scatter(slots, values)?,
            }
        }
        Ok(())
    }

    fn clear(&mut self, slots: &[Slot]) {
        self.accumulator.clear(slots);
        self.first
            .iter_mut()
            .flatten()
            .for_each(|store| store.clear(slots));
    }

    fn memory_size(&self) -> usize {
        let first: usize = self.first.iter().flatten().map(ColumnStore::memory_size).sum();
        self.accumulator.memory_size() + first
    }

    fn cleared_bytes(&self) -> usize {
        self.first.iter().flatten().map(ColumnStore::cleared_bytes).sum()
    }

    fn give_back(&mut self) -> Result<(), ArrowError> {
        self.first
            .iter_mut()
            .flatten()
            .try_for_each(ColumnStore::give_back)
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

    /// The key's columns in snapshots; a computed one has no name in the schema.
    fn key_fields(&self, types: &[DataType]) -> Vec<FieldRef> {
        let fields = self.schema.fields();
        let field = |(place, (column, data_type)): (usize, (&usize, &DataType))| {
            let name = fields
                .get(*column)
                .map_or_else(|| format!("$key{place}"), |field| field.name().clone());
            Arc::new(Field::new(name, data_type.clone(), true))
        };
        self.keys.iter().zip(types).enumerate().map(field).collect()
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

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        let restored = self.state.restore(state, 0);
        restored.map_err(|source| state_error(&self.context, source))
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let tables = self.state.snapshot(request);
        Ok(OperatorSnapshot {
            tables: tables.map_err(|source| state_error(&self.context, source))?,
            lists: Vec::new(),
        })
    }

    fn state_bytes(&self) -> usize {
        self.state.memory_size()
    }
}

#[cfg(test)]
mod tests;
