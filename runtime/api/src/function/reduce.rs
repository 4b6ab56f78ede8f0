//! The operator of `KeyedStream::reduce`.
//!
//! State: a [`KeyIndex`] from key to slot, and one value of `T` a slot.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use thalweg_operators::keyed::{index_error, owns_all};
use thalweg_operators::{KeyIndex, Operator, OperatorContext, OperatorError, OutputLimit, Slot};
use thalweg_types::StreamBatch;

use super::{arrow_error, guard, wrong_input};
use crate::keyed::KeyColumns;
use crate::record::{Record, Rows, RowsBuilder};

/// Folds each record into its key's value and emits the value.
pub(crate) struct ReduceOperator<T: Record, F> {
    context: OperatorContext,
    columns: KeyColumns,
    function: F,
    index: KeyIndex,
    /// By slot. Invariant: as many as keys in the index once a batch is worked off.
    values: Vec<T>,
    input: Option<Input<T>>,
    slots: Vec<Slot>,
    new_rows: Vec<u32>,
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
        let index = KeyIndex::new(&columns.types).map_err(|error| index_error(&context, error))?;
        Ok(Self {
            context,
            columns,
            function,
            index,
            values: Vec::new(),
            input: None,
            slots: Vec::new(),
            new_rows: Vec::new(),
            out: RowsBuilder::with_capacity(0),
        })
    }

    /// Works off rows until the limit; the range of rows.
    fn run(&mut self, limit: OutputLimit) -> std::ops::Range<usize> {
        let Self {
            function,
            values,
            input,
            slots,
            out,
            ..
        } = self;
        let Some(input) = input else { return 0..0 };
        let start = input.next;
        while input.next < input.rows.len() && out.len() < limit.rows && out.bytes() < limit.bytes {
            let record = input.rows.get(input.next);
            let slot = slots[input.next] as usize;
            input.next += 1;
            match values.get_mut(slot) {
                Some(value) => function(value, record),
                // Slots count up in the order of first appearance, so a new one is the next one.
                None => values.push(T::own(record)),
            }
            out.push(&values[slot]);
        }
        start..input.next
    }

    fn output(&mut self, rows: std::ops::Range<usize>) -> Result<Option<StreamBatch>, ArrowError> {
        let Some(input) = &self.input else { return Ok(None) };
        let meta = input.batch.slice(rows.start, rows.len());
        if input.next >= input.rows.len() {
            self.input = None;
        }
        if rows.is_empty() && meta.watermarks.is_empty() {
            return Ok(None);
        }
        let output = self.out.finish()?;
        Ok(Some(StreamBatch {
            key_hashes: None,
            ..meta.with_rows(output)
        }))
    }
}

impl<T: Record, F> Operator for ReduceOperator<T, F>
where
    F: for<'a, 'b> FnMut(&'b mut T, T::Ref<'a>) + Send,
{
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let rows = Rows::of(&batch.rows).map_err(|error| wrong_input(&self.context, &error))?;
        let hashes = batch.key_hashes.as_ref().ok_or_else(|| OperatorError::Input {
            operator: self.context.operator_name.to_string(),
            message: "rows without key hashes came over a keyed edge".to_owned(),
        })?;
        debug_assert!(
            owns_all(&self.context, hashes),
            "a row of another subtask's key group came to {}",
            self.context.task_name
        );
        let keys: Vec<ArrayRef> = self
            .columns
            .indices
            .iter()
            .map(|column| Arc::clone(batch.rows.column(*column)))
            .collect();
        self.index
            .slots(&keys, hashes, &mut self.slots, &mut self.new_rows)
            .map_err(|error| index_error(&self.context, error))?;
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
        self.output(rows)
            .map_err(|error| arrow_error(&self.context, error))
    }
}
