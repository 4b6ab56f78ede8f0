//! Projection and filter.
//!
//! ```text
//!   batch --filter--> mask --used columns only--> rows --projection--> output
//!                      +--> kinds, event times, watermarks at their new places
//! ```

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use thalweg_functions::Evaluator;
use thalweg_plan::{Expr, ExprKind};
use thalweg_types::StreamBatch;

use super::SqlOperator;
use super::output::{Output, arrow_error, evaluation_error, filtered, record_batch};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// [`thalweg_plan::NodeSpec::Calc`].
pub struct Calc {
    context: OperatorContext,
    filter: Option<Evaluator>,
    projection: Evaluator,
    /// The input's columns that the projection reads; it knows no others.
    used: Vec<usize>,
    schema: SchemaRef,
    pending: Option<StreamBatch>,
    output: Output,
}

impl Calc {
    /// An operator of these expressions over the input's columns.
    pub fn new(
        projection: &[Expr],
        filter: Option<&Expr>,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let input = operator.inputs[0].to_arrow();
        let used = used_columns(projection);
        let used_schema = Arc::new(
            input
                .project(&used)
                .map_err(|error| arrow_error(&context, error))?,
        );
        let projection: Vec<Expr> = projection.iter().map(|expr| renumber(expr, &used)).collect();
        let evaluator = |exprs: &[Expr], schema: &SchemaRef| {
            Evaluator::new(exprs, schema, Arc::clone(&operator.env))
                .map_err(|error| evaluation_error(&context, &error))
        };
        let filter = filter.map(|filter| evaluator(std::slice::from_ref(filter), &input));
        Ok(Self {
            filter: filter.transpose()?,
            projection: evaluator(&projection, &used_schema)?,
            used,
            schema: operator.output.to_arrow(),
            pending: None,
            output: Output::default(),
            context,
        })
    }

    fn calculate(&mut self, batch: StreamBatch) -> Result<StreamBatch, OperatorError> {
        let failed = |error| arrow_error(&self.context, error);
        let mask = self
            .filter
            .as_ref()
            .map(|filter| filter.evaluate_filter(&batch.rows));
        let mask = mask
            .transpose()
            .map_err(|error| evaluation_error(&self.context, &error))?;
        let rows = batch.rows.project(&self.used).map_err(failed)?;
        let batch = batch.with_rows(rows);
        let batch = match &mask {
            Some(mask) => filtered(batch, mask).map_err(failed)?,
            None => batch,
        };
        let columns = self
            .projection
            .evaluate(&batch.rows)
            .map_err(|error| evaluation_error(&self.context, &error))?;
        let rows = record_batch(&self.schema, columns, batch.num_rows()).map_err(failed)?;
        Ok(StreamBatch {
            key_hashes: None,
            ..batch.with_rows(rows)
        })
    }
}

/// The columns that expressions read, in order.
pub(crate) fn used_columns(exprs: &[Expr]) -> Vec<usize> {
    let mut used = Vec::new();
    for expr in exprs {
        expr.visit(&mut |expr| {
            if let ExprKind::Column(column) = expr.kind {
                used.push(column);
            }
        });
    }
    used.sort_unstable();
    used.dedup();
    used
}

/// The same expression over `used` only.
pub(crate) fn renumber(expr: &Expr, used: &[usize]) -> Expr {
    let position = expr.position;
    let place = |column: usize| used.binary_search(&column).unwrap_or(column);
    let renumbered = expr
        .clone()
        .map_columns(&mut |column, data_type| Expr::column(place(column), data_type));
    renumbered.at(position)
}

impl Operator for Calc {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        if let Some(batch) = self.pending.take() {
            let output = self.calculate(batch)?;
            self.output.push(output);
        }
        Ok(self.output.pop(limit))
    }
}

#[cfg(test)]
mod tests;
