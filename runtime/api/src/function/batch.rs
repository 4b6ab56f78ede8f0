//! The operator of `process_batches`.

use std::fmt::Display;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thalweg_operators::{Operator, OperatorContext, OperatorError, OutputLimit};
use thalweg_types::{StreamBatch, WatermarkCut};

use super::{arrow_error, guard};

/// Runs a function over whole batches. Its output is passed on in pieces of the limit.
pub(crate) struct BatchOperator<F> {
    context: OperatorContext,
    schema: SchemaRef,
    function: F,
    output: Option<(StreamBatch, usize)>,
}

impl<F> BatchOperator<F> {
    pub(crate) fn new(context: OperatorContext, schema: SchemaRef, function: F) -> Self {
        Self {
            context,
            schema,
            function,
            output: None,
        }
    }

    fn output_of(&self, input: StreamBatch, rows: &RecordBatch) -> Result<StreamBatch, OperatorError> {
        let wanted: Vec<_> = self
            .schema
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let found: Vec<_> = rows
            .columns()
            .iter()
            .map(|column| column.data_type().clone())
            .collect();
        if wanted != found {
            return Err(OperatorError::User {
                operator: self.context.operator_name.to_string(),
                message: format!("the batch has columns {found:?}, the stream's record has {wanted:?}"),
            });
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), rows.columns().to_vec())
            .map_err(|error| arrow_error(&self.context, error))?;
        let same_rows = rows.num_rows() == input.num_rows();
        let behind = rows.num_rows() as u32;
        Ok(StreamBatch {
            rows,
            kinds: input.kinds.filter(|_| same_rows),
            timestamps: input.timestamps.filter(|_| same_rows),
            key_hashes: None,
            // A later watermark is always a correct one.
            watermarks: input
                .watermarks
                .last()
                .map(|cut| WatermarkCut { row: behind, ..*cut })
                .into_iter()
                .collect(),
        })
    }
}

impl<E: Display, F: FnMut(&RecordBatch) -> Result<RecordBatch, E> + Send> Operator for BatchOperator<F>
where
    F: 'static,
{
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let operator = Arc::clone(&self.context.operator_name);
        let rows = guard(&operator, || {
            (self.function)(&batch.rows).map_err(|error| OperatorError::User {
                operator: operator.to_string(),
                message: error.to_string(),
            })
        })?;
        self.output = Some((self.output_of(batch, &rows)?, 0));
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        let Some((batch, offset)) = self.output.take() else {
            return Ok(None);
        };
        if batch.num_rows() == 0 && batch.watermarks.is_empty() {
            return Ok(None);
        }
        let length = limit.rows.max(1).min(batch.num_rows() - offset);
        let piece = batch.slice(offset, length);
        if offset + length < batch.num_rows() {
            self.output = Some((batch, offset + length));
        }
        Ok(Some(piece))
    }
}
