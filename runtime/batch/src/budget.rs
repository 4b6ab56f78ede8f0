//! Who may hold how much of a plan's memory.
//!
//! ```text
//!   pool of the plan: first come, first served
//!     joins (and what else can't go to files): as much as there is
//!     sorts, groups: a slice each and thread; over it they go on in files.   All slices: the pool, or half of it beside joins
//! ```
//!
//! So a sort that merges its files takes nothing from another one, and what spills leaves room for what can't. Flink divides
//! managed memory the same way.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion_common::{DataFusionError, Result};
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion_execution::runtime_env::RuntimeEnv;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_plan::{ExecutionPlan, ExecutionPlanProperties, PlanProperties};

use crate::input::leaf_methods;
use crate::run::task_context;

/// The memory of one plan, and who wants some.
#[derive(Debug)]
pub(crate) struct Budget {
    pool: Arc<dyn MemoryPool>,
    bytes: usize,
    /// Operators that go on in files, times their threads.
    spilling: AtomicUsize,
    /// Operators that can't.
    holding: AtomicUsize,
}

/// What an operator does when its memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appetite {
    /// It goes on in files.
    Spills,
    /// It fails.
    Holds,
}

impl Budget {
    /// Of a pool of so many bytes.
    pub(crate) fn new(pool: Arc<dyn MemoryPool>, bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            pool,
            bytes,
            spilling: AtomicUsize::new(0),
            holding: AtomicUsize::new(0),
        })
    }

    /// The operator with memory of its own.
    pub(crate) fn of(
        self: &Arc<Self>,
        appetite: Appetite,
        operator: Arc<dyn ExecutionPlan>,
    ) -> Arc<dyn ExecutionPlan> {
        let threads = operator.output_partitioning().partition_count();
        match appetite {
            Appetite::Spills => self.spilling.fetch_add(threads, Ordering::Relaxed),
            Appetite::Holds => self.holding.fetch_add(threads, Ordering::Relaxed),
        };
        Arc::new(BudgetedExec {
            budget: Arc::clone(self),
            appetite,
            operator,
        })
    }

    /// A slice; known when all operators are there.
    pub(crate) fn slice(&self) -> usize {
        let all = match self.holding.load(Ordering::Relaxed) {
            0 => self.bytes,
            _ => self.bytes / 2,
        };
        all / self.spilling.load(Ordering::Relaxed).max(1)
    }

    fn pool_of(&self, appetite: Appetite) -> Arc<dyn MemoryPool> {
        match appetite {
            Appetite::Holds => Arc::clone(&self.pool),
            Appetite::Spills => Arc::new(SlicePool {
                pool: Arc::clone(&self.pool),
                limit: self.slice(),
                used: AtomicUsize::new(0),
            }),
        }
    }
}

/// A part of another pool.
#[derive(Debug)]
struct SlicePool {
    pool: Arc<dyn MemoryPool>,
    limit: usize,
    used: AtomicUsize,
}

impl MemoryPool for SlicePool {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let fits = |used: usize| used.checked_add(additional).filter(|used| *used <= self.limit);
        let taken = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if taken.is_err() {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} may hold {} bytes and wants {additional} more",
                reservation.consumer().name(),
                self.limit
            )));
        }
        let grown = self.pool.try_grow(reservation, additional);
        if grown.is_err() {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        }
        grown
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl fmt::Display for SlicePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slice of {} bytes", self.limit)
    }
}

/// An operator with memory of its own, in each partition.
#[derive(Debug)]
struct BudgetedExec {
    budget: Arc<Budget>,
    appetite: Appetite,
    operator: Arc<dyn ExecutionPlan>,
}

impl ExecutionPlan for BudgetedExec {
    fn name(&self) -> &'static str {
        "BudgetedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.operator.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.operator]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: datafusion_physical_plan::ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            budget: Arc::clone(&self.budget),
            appetite: self.appetite,
            operator: children.pop().unwrap_or_else(|| Arc::clone(&self.operator)),
        }))
    }

    leaf_methods!();

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let runtime = RuntimeEnv {
            memory_pool: self.budget.pool_of(self.appetite),
            ..RuntimeEnv::clone(&context.runtime_env())
        };
        let context = task_context(context.session_config().clone(), Arc::new(runtime));
        self.operator.execute(partition, Arc::new(context))
    }
}

impl datafusion_physical_plan::DisplayAs for BudgetedExec {
    fn fmt_as(
        &self,
        _format: datafusion_physical_plan::DisplayFormatType,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        write!(f, "BudgetedExec: {:?}", self.appetite)
    }
}
