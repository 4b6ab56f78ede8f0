//! Each row several times, for GROUPING SETS: the columns of each set are expressions of their own.
//!
//! ```text
//!   rows --all sets' expressions at once--> columns of set 0, of set 1, ..
//!        --interleave--> row 0 of set 0, row 0 of set 1, .. row 1 of set 0, ..
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use thalweg_functions::Evaluator;
use thalweg_plan::Expr;
use thalweg_types::{StreamBatch, WatermarkCut};

use super::SqlOperator;
use super::output::{Output, arrow_error, evaluation_error, record_batch};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// [`thalweg_plan::NodeSpec::Expand`].
pub struct Expand {
    context: OperatorContext,
    sets: usize,
    expressions: Evaluator,
    schema: SchemaRef,
    pending: Option<StreamBatch>,
    output: Output,
}

impl Expand {
    /// An operator that makes a row of each list of expressions.
    pub fn new(
        sets: &[Vec<Expr>],
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let all: Vec<Expr> = sets.iter().flatten().cloned().collect();
        let expressions = Evaluator::new(&all, &operator.inputs[0].to_arrow(), Arc::clone(&operator.env))
            .map_err(|error| evaluation_error(&context, &error))?;
        Ok(Self {
            sets: sets.len(),
            expressions,
            schema: operator.output.to_arrow(),
            pending: None,
            output: Output::default(),
            context,
        })
    }

    fn expand(&self, batch: &StreamBatch) -> Result<StreamBatch, OperatorError> {
        let columns = self
            .expressions
            .evaluate(&batch.rows)
            .map_err(|error| evaluation_error(&self.context, &error))?;
        self.interleave(batch, &columns)
            .map_err(|error| arrow_error(&self.context, error))
    }

    fn interleave(&self, batch: &StreamBatch, columns: &[ArrayRef]) -> Result<StreamBatch, ArrowError> {
        let (rows, sets) = (batch.num_rows(), self.sets);
        let places: Vec<(usize, usize)> = (0..rows)
            .flat_map(|row| (0..sets).map(move |set| (set, row)))
            .collect();
        let width = self.schema.fields().len();
        let column = |column: usize| {
            let of_sets: Vec<&dyn Array> = columns
                .iter()
                .skip(column)
                .step_by(width)
                .map(AsRef::as_ref)
                .collect();
            interleave(&of_sets, &places)
        };
        let expanded = (0..width).map(column).collect::<Result<Vec<_>, _>>()?;
        let origin = UInt32Array::from_iter_values(places.iter().map(|(_, row)| *row as u32));
        let kinds = batch.kinds.as_ref().map(|kinds| take(kinds, &origin, None));
        Ok(StreamBatch {
            kinds: kinds.transpose()?.map(|kinds| kinds.to_data().into()),
            watermarks: batch
                .watermarks
                .iter()
                .map(|cut| WatermarkCut {
                    row: cut.row * sets as u32,
                    ..*cut
                })
                .collect(),
            ..StreamBatch::new(record_batch(&self.schema, expanded, rows * sets)?)
        })
    }
}

impl Operator for Expand {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        if self.output.is_empty()
            && let Some(batch) = self.pending.take()
        {
            // As many rows at a time as give one piece.
            let rows = (limit.rows / self.sets.max(1)).max(1);
            let piece = batch.slice(0, rows.min(batch.num_rows()));
            if rows < batch.num_rows() {
                self.pending = Some(batch.slice(rows, batch.num_rows() - rows));
            }
            let expanded = self.expand(&piece)?;
            self.output.push(expanded);
        }
        Ok(self.output.pop(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, Input, TestClock, bigint, row, table, text};
    use super::*;
    use thalweg_plan::NodeSpec;
    use thalweg_plan::expr::Literal;
    use thalweg_types::element::RowKind;

    #[test]
    fn each_set_gives_a_row_next_to_its_origin() {
        let input = table(&[("a", text()), ("b", bigint())]);
        let output = table(&[("a", text()), ("b", bigint()), ("id", bigint())]);
        let sets: Vec<Vec<Expr>> = vec![
            vec![
                Expr::column(0, text()),
                Expr::column(1, bigint()),
                Expr::literal(Literal::Int(0), bigint()),
            ],
            vec![
                Expr::column(0, text()),
                Expr::literal(Literal::Null, bigint()),
                Expr::literal(Literal::Int(1), bigint()),
            ],
        ];
        let schema = input.clone();
        let mut harness = Harness::new(vec![Input::singleton(&input)], move |context| {
            let operator = SqlOperator {
                spec: &NodeSpec::DropUpdateBefore,
                inputs: std::slice::from_ref(&schema),
                output: &output,
                env: TestClock::new(0).env(),
            };
            Box::new(Expand::new(&sets, &operator, context).unwrap())
        });
        harness.row(0, RowKind::Insert, row!["x", 1]);
        harness.row(0, RowKind::Delete, row!["y", 2]);
        harness.watermark(0, 5);
        let expected = [
            (RowKind::Insert, row!["x", 1, 0]),
            (RowKind::Insert, row!["x", None::<i64>, 1]),
            (RowKind::Delete, row!["y", 2, 0]),
            (RowKind::Delete, row!["y", None::<i64>, 1]),
        ];
        assert_eq!(harness.changelog(), expected);
    }
}
