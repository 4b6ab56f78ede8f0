//! VALUES: constant rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int8Array, RecordBatch, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Schema as Columns};
use thalweg_functions::{EvaluationEnv, EvaluationError, Evaluator};
use thalweg_plan::expr::Literal;
use thalweg_plan::{Expr, Schema};

use super::output::record_batch;

/// Why constant rows are no columns.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// A literal is none of its column's type.
    #[error("VALUES: {0}")]
    Literal(#[from] EvaluationError),
    /// The rows don't fit the schema.
    #[error("VALUES: columns can't be made")]
    Columns(#[from] arrow::error::ArrowError),
}

/// The rows of [`thalweg_plan::NodeSpec::Values`].
pub fn rows(
    rows: &[Vec<Literal>],
    schema: &Schema,
    env: &Arc<EvaluationEnv>,
) -> Result<RecordBatch, ValuesError> {
    let arrow = schema.to_arrow();
    let literals: Vec<Expr> = rows
        .iter()
        .flat_map(|row| {
            let fields = schema.fields.iter();
            row.iter()
                .zip(fields)
                .map(|(literal, field)| Expr::literal(literal.clone(), field.data_type.clone()))
        })
        .collect();
    let values = one_row(&literals, env)?;
    let width = schema.fields.len();
    let columns = arrow.fields().iter().enumerate().map(|(column, field)| {
        let parts: Vec<&dyn Array> = values
            .iter()
            .skip(column)
            .step_by(width)
            .map(AsRef::as_ref)
            .collect();
        match parts.is_empty() {
            true => Ok(new_empty_array(field.data_type())),
            false => concat(&parts),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(record_batch(&arrow, columns, rows.len())?)
}

/// Constants as columns of one row.
fn one_row(constants: &[Expr], env: &Arc<EvaluationEnv>) -> Result<Vec<ArrayRef>, ValuesError> {
    let schema = Arc::new(Columns::new(vec![Field::new("row", DataType::Int8, false)]));
    let column: ArrayRef = Arc::new(Int8Array::from(vec![0]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column])?;
    Ok(Evaluator::new(constants, &schema, Arc::clone(env))?.evaluate(&batch)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestClock, bigint, row, row_of, table, text};
    use super::*;

    #[test]
    fn rows_are_those_that_were_written() {
        let schema = table(&[("a", bigint()), ("b", text())]);
        let literals = vec![
            vec![Literal::Int(1), Literal::String("x".into())],
            vec![Literal::Null, Literal::String("".into())],
        ];
        let batch = rows(&literals, &schema, &TestClock::new(0).env()).unwrap();
        assert_eq!(row_of(&batch, 0), row![1, "x"]);
        assert_eq!(row_of(&batch, 1), row![None::<i64>, ""]);
        assert_eq!(batch.num_rows(), 2);
    }

    #[test]
    fn no_rows_are_no_rows() {
        let schema = table(&[("a", bigint()), ("b", text())]);
        let batch = rows(&[], &schema, &TestClock::new(0).env()).unwrap();
        assert_eq!(batch.num_rows(), 0);
    }
}
