//! Leaves -U out: of a changelog whose rows have a key.

use arrow::array::BooleanArray;
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::output::{Output, arrow_error, filtered};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// [`thalweg_plan::NodeSpec::DropUpdateBefore`].
pub struct DropUpdateBefore {
    context: OperatorContext,
    output: Output,
}

impl DropUpdateBefore {
    /// Of any rows.
    pub fn new(context: OperatorContext) -> Self {
        Self {
            context,
            output: Output::default(),
        }
    }
}

impl Operator for DropUpdateBefore {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let Some(kinds) = &batch.kinds else {
            self.output.push(batch);
            return Ok(());
        };
        let kept = kinds
            .values()
            .iter()
            .map(|kind| *kind != RowKind::UpdateBefore as i8);
        let kept: BooleanArray = kept.collect::<Vec<_>>().into();
        let batch = filtered(batch, &kept).map_err(|source| arrow_error(&self.context, source))?;
        self.output.push(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(self.output.pop(limit))
    }
}
