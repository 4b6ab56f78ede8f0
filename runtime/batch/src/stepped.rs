//! Operators of ours in a DataFusion plan: those that give rows of one row each time, whatever came before it.
//!
//! ```text
//!   DataFusion's stream --batch--> Operator::push, poll_output.. --batches--> positional columns
//! ```

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_common::Result;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::EquivalenceProperties;
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};
use thalweg_functions::EvaluationEnv;
use thalweg_operators::sql::{SqlOperator, create};
use thalweg_operators::{Operator, OperatorContext, OperatorError, OutputLimit};
use thalweg_plan::{NodeSpec, Schema};
use thalweg_types::StreamBatch;

use crate::columns;
use crate::error::external;
use crate::input::leaf_methods;

const LIMIT: OutputLimit = OutputLimit {
    rows: 8192,
    bytes: 1 << 20,
};

/// What an operator is made of, each time the plan is run.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) spec: NodeSpec,
    pub(crate) input: Schema,
    pub(crate) output: Schema,
    pub(crate) env: Arc<EvaluationEnv>,
    pub(crate) context: OperatorContext,
}

impl Recipe {
    fn make(&self) -> Result<Box<dyn Operator>, OperatorError> {
        let operator = SqlOperator {
            spec: &self.spec,
            inputs: std::slice::from_ref(&self.input),
            output: &self.output,
            env: Arc::clone(&self.env),
        };
        create(&operator, self.context.clone())
    }
}

/// An operator over each batch of its input.
#[derive(Debug)]
pub(crate) struct SteppedExec {
    input: Arc<dyn ExecutionPlan>,
    recipe: Recipe,
    properties: Arc<PlanProperties>,
}

impl SteppedExec {
    /// Over these rows; what the operator refuses is refused now.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, recipe: Recipe) -> Result<Self, OperatorError> {
        recipe.make()?;
        let properties = properties(&input, columns::of_plan(&recipe.output));
        Ok(Self {
            input,
            recipe,
            properties,
        })
    }
}

/// Of an operator that gives rows of `schema` as they come.
pub(crate) fn properties(input: &Arc<dyn ExecutionPlan>, schema: SchemaRef) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema),
        input.properties().partitioning.clone(),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// An operator and what it was last given.
struct Steps {
    operator: Box<dyn Operator>,
    input: SendableRecordBatchStream,
    input_schema: SchemaRef,
    output_schema: SchemaRef,
}

impl Steps {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            match self.operator.poll_output(LIMIT) {
                Ok(Some(batch)) if batch.rows.num_rows() == 0 => continue,
                Ok(Some(batch)) => {
                    return Some(columns::renamed(&self.output_schema, &batch.rows).map_err(Into::into));
                }
                Ok(None) => {}
                Err(error) => return Some(Err(external(error))),
            }
            let batch = match self.input.next().await? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error)),
            };
            if let Err(error) = self.push(&batch) {
                return Some(Err(error));
            }
        }
    }

    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = columns::renamed(&self.input_schema, batch)?;
        self.operator.push(0, StreamBatch::new(rows)).map_err(external)
    }
}

impl ExecutionPlan for SteppedExec {
    fn name(&self) -> &'static str {
        "SteppedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: datafusion_physical_plan::ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        let made = Self::new(input, self.recipe.clone()).map_err(external)?;
        Ok(Arc::new(made))
    }

    leaf_methods!();

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let steps = Steps {
            operator: self.recipe.make().map_err(external)?,
            input: self.input.execute(partition, context)?,
            input_schema: self.recipe.input.to_arrow(),
            output_schema: self.schema(),
        };
        let rows = stream::unfold(Some(steps), |steps| async move {
            let mut steps = steps?;
            let next = steps.next().await?;
            let rest = next.is_ok().then_some(steps);
            Some((next, rest))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

impl datafusion_physical_plan::DisplayAs for SteppedExec {
    fn fmt_as(
        &self,
        _format: datafusion_physical_plan::DisplayFormatType,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(f, "SteppedExec: {}", self.recipe.context.operator_name)
    }
}
