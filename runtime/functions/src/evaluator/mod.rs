//! Evaluates many expressions over batches of one schema.
//!
//! ```text
//!   Expr* --compile--> Program: steps, each of earlier ones; a shared subexpression is one step
//!                        |-- branches of CASE, AND, OR, COALESCE that can fail or cost: programs of their own
//!   batch --run------> values of all steps: a column, or one value for all rows --> the outputs as columns
//! ```
//!
//! Invariants: what depends on no column and is deterministic is computed when it's compiled; a branch is computed only for the rows that
//! need it, if it could fail; the arrays given out have exactly the types of the expressions.

mod compile;
mod constant;
mod lazy;
mod program;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use thalweg_plan::{Expr, Literal, TypeRoot};

use compile::compile;
#[cfg(test)]
pub(crate) use constant::literal_array;
use program::Program;
pub(crate) use program::conform;

use crate::registry::{EvaluationEnv, EvaluationError, Value};

/// Expressions over one input, compiled once.
pub struct Evaluator {
    program: Program,
    env: Arc<EvaluationEnv>,
}

impl Evaluator {
    /// Compiles expressions over columns of these types.
    ///
    /// # Errors
    /// A column that isn't there or has another type, a function that doesn't exist: mistakes of whoever made the plan.
    pub fn new(exprs: &[Expr], input: &SchemaRef, env: Arc<EvaluationEnv>) -> Result<Self, EvaluationError> {
        let program = compile(exprs, Some(input), &env)?;
        Ok(Self { program, env })
    }

    /// The expressions' values, in their order, one array each.
    ///
    /// # Errors
    /// A value that can't be computed: a division by zero, a wrong CAST. Which row is not told.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, EvaluationError> {
        let rows = batch.num_rows();
        let values = self.run(batch)?;
        Ok(values.iter().map(|value| value.to_array(rows)).collect())
    }

    /// Which rows the first expression, a condition, keeps: never null.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_filter(&self, batch: &RecordBatch) -> Result<BooleanArray, EvaluationError> {
        let rows = batch.num_rows();
        let values = self.run(batch)?;
        let condition = values
            .first()
            .filter(|value| matches!(value.array().data_type(), arrow::datatypes::DataType::Boolean));
        let Some(condition) = condition else {
            return Ok(BooleanArray::new(
                arrow::buffer::BooleanBuffer::new_unset(rows),
                None,
            ));
        };
        let condition = condition.to_array(rows);
        let condition = condition.as_boolean();
        Ok(match condition.nulls() {
            Some(nulls) => BooleanArray::new(condition.values() & nulls.inner(), None),
            None => condition.clone(),
        })
    }

    fn run(&self, batch: &RecordBatch) -> Result<Vec<Value>, EvaluationError> {
        let inputs = |index: usize| Value::Array(Arc::clone(batch.column(index)));
        self.program.run(&inputs, batch.num_rows(), &self.env)
    }
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// The value of an expression without columns.
///
/// # Errors
/// It has a column, can't be computed, or is of a type without literals (ARRAY, MAP, ROW).
pub fn fold_constant(expr: &Expr, env: &EvaluationEnv) -> Result<Literal, EvaluationError> {
    if expr.data_type.root == TypeRoot::Null {
        return Ok(Literal::Null);
    }
    let program = compile(std::slice::from_ref(expr), None, env)?;
    let values = program.run(
        &|_| Value::Scalar(arrow::array::new_null_array(&arrow::datatypes::DataType::Null, 1)),
        1,
        env,
    )?;
    values
        .first()
        .and_then(|value| constant::array_literal(value.array().as_ref(), 0, &expr.data_type))
        .ok_or_else(|| EvaluationError {
            function: expr.to_string(),
            message: format!("a value of type {} has no literal", expr.data_type),
            position: expr.position,
        })
}
