//! The operator of `KeyedStream::reduce`.
//!
//! State: one value of `T` a key, table "reduce".

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::Field;
use arrow::error::ArrowError;
use thalweg_operators::keyed::{keyed_state, keys_of, state_error};
use thalweg_operators::{KeyedState, Operator, OperatorContext, OperatorError, OutputLimit, Slot};
use thalweg_state::{OperatorSnapshot, RestoredState, SnapshotRequest, ValueHandle};
use thalweg_types::StreamBatch;

use super::{arrow_error, guard, wrong_input};
use crate::keyed::KeyColumns;
use crate::record::{Record, Rows, RowsBuilder};

/// The state's name in snapshots.
const TABLE: &str = "reduce";

/// Folds each record into its key's value and emits the value.
pub(crate) struct ReduceOperator<T: Record, F> {
    context: OperatorContext,
    columns: KeyColumns,
    function: F,
    state: KeyedState,
    values: ValueHandle<T>,
    input: Option<Input<T>>,
    slots: Vec<Slot>,
    out: RowsBuilder<T>,
}

/// The batch that is being worked off; `ReduceOperator::slots` are its rows' slots.
struct Input<T: Record> {
    rows: Rows<T>,
    batch: StreamBatch,
    next: usize,
}

impl<T: Record, F> ReduceOperator<T, F>
where
    F: for<'a, 'b> FnMut(&'b mut T, T::Ref<'a>),
{
    pub(crate) fn new(
        context: OperatorContext,
        columns: KeyColumns,
        function: F,
    ) -> Result<Self, OperatorError> {
        let key = columns.names.iter().zip(&columns.types);
        let key = key.map(|(name, data_type)| Arc::new(Field::new(name, data_type.clone(), true)));
        let mut state = keyed_state(&context, key.collect())?;
        let values = state
            .register_value::<T>(TABLE, None)
            .map_err(|source| state_error(&context, source))?;
        Ok(Self {
            context,
            columns,
            function,
            state,
            values,
            input: None,
            slots: Vec::new(),
            out: RowsBuilder::with_capacity(0),
        })
    }

    /// Works off rows until the limit; the range of rows.
    fn run(&mut self, limit: OutputLimit) -> Range<usize> {
        let Self {
            function,
            state,
            input,
            slots,
            out,
            ..
        } = self;
        let Some(input) = input else { return 0..0 };
        let values = state.table(self.values);
        let start = input.next;
        while input.next < input.rows.len() && out.len() < limit.rows && out.bytes() < limit.bytes {
            let record = input.rows.get(input.next);
            let slot = slots[input.next];
            input.next += 1;
            out.push(values.reduce(slot, record, &mut *function));
        }
        start..input.next
    }

    fn output(&mut self, rows: Range<usize>) -> Result<Option<StreamBatch>, ArrowError> {
        let Some(input) = &self.input else { return Ok(None) };
        let meta = input.batch.slice(rows.start, rows.len());
        if rows.is_empty() && meta.watermarks.is_empty() {
            return Ok(None);
        }
        let output = self.out.finish()?;
        Ok(Some(StreamBatch {
            key_hashes: None,
            ..meta.with_rows(output)
        }))
    }

    /// Behind each piece of output: the memory limit is checked, and the batch left when it is worked off.
    fn end_piece(&mut self) -> Result<(), OperatorError> {
        let is_done = self
            .input
            .as_ref()
            .is_none_or(|input| input.next >= input.rows.len());
        let ended = if is_done {
            self.input = None;
            self.state.end_batch()
        } else {
            self.state.check_memory()
        };
        ended.map_err(|source| state_error(&self.context, source))
    }
}

impl<T: Record, F> Operator for ReduceOperator<T, F>
where
    F: for<'a, 'b> FnMut(&'b mut T, T::Ref<'a>) + Send,
{
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let rows = Rows::of(&batch.rows).map_err(|error| wrong_input(&self.context, &error))?;
        let (keys, hashes) = keys_of(&self.context, &batch, &self.columns.indices)?;
        // Nothing expires here, so that the clock doesn't matter.
        self.state
            .begin_batch(&keys, hashes, 0, &mut self.slots)
            .map_err(|source| state_error(&self.context, source))?;
        self.input = Some(Input { rows, batch, next: 0 });
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        if self.input.is_none() {
            return Ok(None);
        }
        let limit = OutputLimit {
            rows: limit.rows.max(1),
            bytes: limit.bytes.max(1),
        };
        let operator = Arc::clone(&self.context.operator_name);
        let rows = guard(&operator, || Ok(self.run(limit)))?;
        let output = self
            .output(rows)
            .map_err(|error| arrow_error(&self.context, error))?;
        self.end_piece()?;
        Ok(output)
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
