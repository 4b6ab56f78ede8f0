//! Rows from the job's sources on their way into a DataFusion plan.
//!
//! ```text
//!   BatchOperator::push --clones--> a queue for each place that reads the source --InputExec's stream--> the plan
//!                                     | over the budget
//!                                     +--> nobody waits for other rows: the task waits      (poll_room)
//!                                     +--> somebody does: this queue goes on in a file
//! ```
//!
//! A hash join reads one side to its end before the other: waiting for room in the other side's queue would be for ever, hence the files.
//!
//! Invariant: a queue gives its rows in their order: those in memory, then those of the file, which is read when memory is empty.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_common::Result;
use datafusion_execution::runtime_env::RuntimeEnv;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::EquivalenceProperties;
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion_physical_plan::spill::spill_pool::{SpillPoolSink, spsc_channel};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{ExecutionPlan, Partitioning, PlanProperties, SpillManager};
use futures::{StreamExt, stream};

use crate::columns;

/// The methods of an [`ExecutionPlan`] that has no expressions of DataFusion's.
macro_rules! leaf_methods {
    () => {
        fn apply_expressions(
            &self,
            _visit: &mut dyn FnMut(
                &::std::sync::Arc<dyn ::datafusion_physical_expr::PhysicalExpr>,
            ) -> ::datafusion_common::Result<
                ::datafusion_common::tree_node::TreeNodeRecursion,
            >,
        ) -> ::datafusion_common::Result<::datafusion_common::tree_node::TreeNodeRecursion> {
            Ok(::datafusion_common::tree_node::TreeNodeRecursion::Continue)
        }

        fn with_new_children(
            self: ::std::sync::Arc<Self>,
            children: Vec<::std::sync::Arc<dyn ExecutionPlan>>,
        ) -> ::datafusion_common::Result<::std::sync::Arc<dyn ExecutionPlan>> {
            let recompute = ::datafusion_physical_plan::ChildrenPropertiesMode::Recompute;
            self.replace_children(
                children,
                ::datafusion_physical_plan::ReplaceChildrenOptions::new(recompute),
            )
        }
    };
}
pub(crate) use leaf_methods;

/// A queue's file is cut at about this size, so that what was read goes.
const FILE_BYTES: usize = 64 << 20;

/// All queues of one run.
pub(crate) struct Inputs {
    shared: Mutex<Shared>,
    budget: usize,
}

struct Shared {
    queues: Vec<Queue>,
    /// In memory, of all queues.
    bytes: usize,
    /// The task that waits for room.
    writer: Option<Waker>,
}

/// What one place in the plan reads.
struct Queue {
    /// Which of the operator's inputs it is of.
    input: usize,
    schema: SchemaRef,
    spills: Arc<SpillManager>,
    waiting: VecDeque<RecordBatch>,
    /// What comes from now on goes there, until the reader gets to it.
    file: Option<(SpillPoolSink, SendableRecordBatchStream)>,
    ended: bool,
    reader: Option<Waker>,
    /// Nobody reads it any more.
    closed: bool,
}

/// What a reader gets.
enum Next {
    Rows(RecordBatch),
    File(SendableRecordBatchStream),
    End,
}

impl Inputs {
    /// Without queues; rows in memory are at most about so many bytes.
    pub(crate) fn new(budget: usize) -> Arc<Self> {
        Arc::new(Self {
            shared: Mutex::new(Shared {
                queues: Vec::new(),
                bytes: 0,
                writer: None,
            }),
            budget,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another place that reads this input.
    pub(crate) fn reader(
        self: &Arc<Self>,
        input: usize,
        schema: &thalweg_plan::Schema,
        env: &Arc<RuntimeEnv>,
    ) -> Arc<dyn ExecutionPlan> {
        let schema = columns::of_plan(schema);
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let mut shared = self.lock();
        let queue = shared.queues.len();
        shared.queues.push(Queue {
            input,
            schema: Arc::clone(&schema),
            spills: Arc::new(SpillManager::new(Arc::clone(env), metrics, Arc::clone(&schema))),
            waiting: VecDeque::new(),
            file: None,
            ended: false,
            reader: None,
            closed: false,
        });
        Arc::new(InputExec {
            inputs: Arc::clone(self),
            queue,
            properties: Arc::new(PlanProperties::new(
                EquivalenceProperties::new(schema),
                Partitioning::UnknownPartitioning(1),
                EmissionType::Incremental,
                Boundedness::Bounded,
            )),
        })
    }

    /// Hands rows of an input to all that read it.
    pub(crate) fn push(&self, input: usize, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let mut shared = self.lock();
        let Shared { queues, bytes, .. } = &mut *shared;
        for queue in queues.iter_mut().filter(|queue| queue.input == input) {
            if queue.closed {
                continue;
            }
            let rows = columns::renamed(&queue.schema, rows)?;
            let is_full = *bytes >= self.budget;
            // What a reader waits for is never written.
            if queue.file.is_some() || (is_full && queue.reader.is_none()) {
                let (writer, _) = queue
                    .file
                    .get_or_insert_with(|| spsc_channel(FILE_BYTES, Arc::clone(&queue.spills)));
                writer.push_batch(&rows)?;
            } else {
                *bytes += rows.get_array_memory_size();
                queue.waiting.push_back(rows);
            }
            if let Some(reader) = queue.reader.take() {
                reader.wake();
            }
        }
        Ok(())
    }

    /// No more rows of this input.
    pub(crate) fn end(&self, input: usize) {
        let mut shared = self.lock();
        for queue in shared.queues.iter_mut().filter(|queue| queue.input == input) {
            queue.ended = true;
            if let Some(reader) = queue.reader.take() {
                reader.wake();
            }
        }
    }

    /// Ready when more rows can be pushed.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.lock();
        let is_starving = shared.queues.iter().any(|queue| queue.reader.is_some());
        if shared.bytes < self.budget || is_starving {
            return Poll::Ready(());
        }
        shared.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_next(&self, queue: usize, cx: &mut Context<'_>) -> Poll<Result<Next>> {
        let mut shared = self.lock();
        let Shared {
            queues,
            bytes,
            writer,
        } = &mut *shared;
        let Some(queue) = queues.get_mut(queue) else {
            return Poll::Ready(Ok(Next::End));
        };
        if let Some(writer) = writer.take() {
            writer.wake();
        }
        if let Some(rows) = queue.waiting.pop_front() {
            *bytes = bytes.saturating_sub(rows.get_array_memory_size());
            return Poll::Ready(Ok(Next::Rows(rows)));
        }
        // Dropping the writer ends the file.
        if let Some((_, file)) = queue.file.take() {
            return Poll::Ready(Ok(Next::File(file)));
        }
        if queue.ended {
            return Poll::Ready(Ok(Next::End));
        }
        queue.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What was not read is never read.
    fn close(&self, queue: usize) {
        let mut shared = self.lock();
        let Shared {
            queues,
            bytes,
            writer,
        } = &mut *shared;
        let Some(queue) = queues.get_mut(queue) else {
            return;
        };
        queue.closed = true;
        queue.reader = None;
        queue.file = None;
        let waiting = queue.waiting.drain(..).map(|rows| rows.get_array_memory_size());
        *bytes = bytes.saturating_sub(waiting.sum());
        if let Some(writer) = writer.take() {
            writer.wake();
        }
    }
}

/// The rows of a source at one place of a plan; it can be executed once.
struct InputExec {
    inputs: Arc<Inputs>,
    queue: usize,
    properties: Arc<PlanProperties>,
}

/// Closes its queue when the plan lets go of it.
struct Reader {
    inputs: Arc<Inputs>,
    queue: usize,
    file: Option<SendableRecordBatchStream>,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(file) = &mut self.file {
                match file.next().await {
                    Some(rows) => return Some(rows),
                    None => self.file = None,
                }
            }
            match std::future::poll_fn(|cx| self.inputs.poll_next(self.queue, cx)).await {
                Ok(Next::Rows(rows)) => return Some(Ok(rows)),
                Ok(Next::File(file)) => self.file = Some(file),
                Ok(Next::End) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.inputs.close(self.queue);
    }
}

impl ExecutionPlan for InputExec {
    fn name(&self) -> &'static str {
        "InputExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: datafusion_physical_plan::ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    leaf_methods!();

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let reader = Reader {
            inputs: Arc::clone(&self.inputs),
            queue: self.queue,
            file: None,
        };
        let rows = stream::unfold(reader, |mut reader| async move {
            let rows = reader.next().await?;
            Some((rows, reader))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

impl fmt::Debug for InputExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputExec").field("queue", &self.queue).finish()
    }
}

impl datafusion_physical_plan::DisplayAs for InputExec {
    fn fmt_as(
        &self,
        _format: datafusion_physical_plan::DisplayFormatType,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(f, "InputExec: {}", self.queue)
    }
}
