//! A batch plan as an operator of a job: what sources give goes in, what the sink takes comes out.
//!
//! ```text
//!   push(input, batch) -> the input's queues        poll_ready: room in the queues, or rows of the result
//!   end_input(..) of all -> poll_ready waits until the plan is through -> poll_output.. -> None
//! ```
//!
//! It has no state: a job that fails begins anew. Invariants: a row that comes in is an insert; the plan is asked for rows in `poll_ready` only,
//! where the task can be woken.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_common::DataFusionError;
use thalweg_functions::EvaluationEnv;
use thalweg_operators::{Operator, OperatorContext, OperatorError, OutputLimit};
use thalweg_state::{LocalFolder, OperatorSnapshot, Scratch, SnapshotRequest};
use thalweg_types::StreamBatch;

use crate::budget::Budget;
use crate::columns;
use crate::error::BatchError;
use crate::input::Inputs;
use crate::lower::Lowering;
use crate::plan::BatchPlan;
use crate::run::{Run, runtime_env};

/// The most of the memory that rows may take that wait to be read.
const QUEUED_SHARE: usize = 4;
const MOST_QUEUED_BYTES: usize = 64 << 20;

/// The part of a sort's memory that it merges its files in.
const MERGING_SHARE: usize = 4;
const MOST_MERGING_BYTES: usize = 10 << 20;

/// The operator of a [`BatchPlan`].
pub struct BatchOperator {
    name: Arc<str>,
    inputs: Arc<Inputs>,
    open_inputs: usize,
    run: Run,
    schema: SchemaRef,
    /// What came and was not yet asked for.
    held: Option<RecordBatch>,
    finished: bool,
}

impl BatchOperator {
    /// Starts the plan on so many threads.
    ///
    /// # Errors
    /// The plan can't be lowered: see [`BatchPlan::of`].
    pub fn new(
        plan: &BatchPlan,
        env: &Arc<EvaluationEnv>,
        context: &OperatorContext,
        partitions: usize,
    ) -> Result<Self, OperatorError> {
        Self::started(plan, env, context, partitions.max(1)).map_err(|error| OperatorError::Value {
            operator: context.operator_name.to_string(),
            message: error.to_string(),
        })
    }

    fn started(
        plan: &BatchPlan,
        env: &Arc<EvaluationEnv>,
        context: &OperatorContext,
        partitions: usize,
    ) -> Result<Self, BatchError> {
        let memory = context.state.memory_bytes;
        let queued = (memory / QUEUED_SHARE).min(MOST_QUEUED_BYTES);
        let inputs = Inputs::new(queued);
        let memory = memory - queued;
        let folder = context.state.scratch.as_ref().map(Scratch::folder).transpose();
        let folder = folder.map_err(|source| OperatorError::State {
            operator: context.operator_name.to_string(),
            source,
        })?;
        let runtime = runtime_env(memory, folder.as_deref().map(LocalFolder::path))?;
        let budget = Budget::new(Arc::clone(&runtime.memory_pool), memory);
        let lowering = Lowering {
            plan,
            inputs: &inputs,
            runtime: &runtime,
            env,
            context,
            budget: &budget,
            partitions,
        };
        let root = lowering.root()?;
        let merging = (budget.slice() / MERGING_SHARE).min(MOST_MERGING_BYTES);
        let run = Run::start(root, Arc::clone(&runtime), merging, partitions)?;
        Ok(Self {
            name: Arc::clone(&context.operator_name),
            inputs,
            open_inputs: plan.sources().len(),
            run,
            schema: plan.schema().to_arrow(),
            held: None,
            finished: false,
        })
    }

    /// Takes the next rows from the plan, if they are there.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), OperatorError> {
        while self.held.is_none() && !self.finished {
            match self.run.poll(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.finished = true,
                Poll::Ready(Some(Ok(rows))) if rows.num_rows() == 0 => {}
                Poll::Ready(Some(Ok(rows))) => self.held = Some(rows),
                Poll::Ready(Some(Err(error))) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    fn failed(&self, error: &DataFusionError) -> OperatorError {
        if let DataFusionError::ResourcesExhausted(message) = error.find_root() {
            let message = format!(
                "its memory is full, and what it holds can't be put in files (a join's right side, ranks of OVER): raise \
                 taskmanager.memory.managed.size, or put the larger table left. {message}"
            );
            return OperatorError::Value {
                operator: self.name.to_string(),
                message,
            };
        }
        let (operator, message) = match cause(error) {
            Some(OperatorError::Value { operator, message }) => (operator.clone(), message.clone()),
            Some(other) => (self.name.to_string(), other.to_string()),
            None => (self.name.to_string(), error.find_root().to_string()),
        };
        OperatorError::Value { operator, message }
    }
}

/// The error of an operator of ours.
fn cause(error: &DataFusionError) -> Option<&OperatorError> {
    match error.find_root() {
        DataFusionError::External(source) => source.downcast_ref(),
        _ => None,
    }
}

impl Operator for BatchOperator {
    fn push(&mut self, input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        if self.finished {
            return Ok(());
        }
        let pushed = self.inputs.push(input, &batch.rows);
        pushed.map_err(|error| self.failed(&error))
    }

    fn poll_output(&mut self, _limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        let Some(rows) = self.held.take() else {
            return Ok(None);
        };
        let rows = columns::renamed(&self.schema, &rows).map_err(|source| OperatorError::Arrow {
            operator: self.name.to_string(),
            source,
        })?;
        Ok(Some(StreamBatch::new(rows)))
    }

    fn end_input(&mut self, input: usize) -> Result<(), OperatorError> {
        self.inputs.end(input);
        self.open_inputs = self.open_inputs.saturating_sub(1);
        Ok(())
    }

    /// At its end there is nothing to keep. Before, a savepoint would not hold what came in.
    fn snapshot(&mut self, _request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        if self.finished && self.held.is_none() {
            return Ok(OperatorSnapshot::default());
        }
        Err(OperatorError::Value {
            operator: self.name.to_string(),
            message: "a job in batch mode has no savepoints: it begins anew".to_owned(),
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OperatorError>> {
        self.advance(cx)?;
        if self.held.is_some() || self.finished {
            return Poll::Ready(Ok(()));
        }
        match self.open_inputs {
            0 => Poll::Pending,
            _ => self.inputs.poll_room(cx).map(Ok),
        }
    }
}
