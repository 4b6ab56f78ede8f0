//! Starts, cancels and watches tasks: one thread each.
//!
//! ```text
//!   deploy(TaskDeployment) --plan--> thread: DEPLOYING -> INITIALIZING -> RUNNING -> FINISHED | CANCELED | FAILED
//!   cancel, trigger, notify --mailbox-->   |  (INITIALIZING: state is read, what was prepared before is committed)
//!   metrics() <----relaxed counters--------+--bounded queue--> TaskEvent (state, and at the end the last metrics;
//!                                                              acknowledged and declined checkpoints)
//! ```
//!
//! Invariants: a task's states are reported in order, each once, and exactly one of them is terminal; by then its channels
//! are released and it is no longer among the running. User code runs on task threads only.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use thalweg_exchange::Exchange;
use thalweg_proto::control::v1::{self as control, CheckpointFailureReason, TaskState};
use thalweg_proto::state::v1::TaskSnapshot;
use thalweg_state::{FileMerging, SnapshotStore};
use thalweg_storage::{FileSystems, LocalCopies};
use thalweg_types::{ExecutionId, Failure, FailureClass};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::alignment::Alignment;
use crate::assemble::{Place, assemble};
use crate::checkpoint::barrier::Barrier;
use crate::checkpoint::local::{self, LocalStateSettings};
use crate::checkpoint::restore;
use crate::checkpoint::upload::{Uploader, refusal};
use crate::clock::Clock;
use crate::disk_state::DiskFolder;
use crate::error::TaskError;
use crate::mailbox::Mailbox;
use crate::metrics::{OperatorCounters, TaskCounters};
use crate::panics;
use crate::plan::TaskPlan;
use crate::program::JobProgram;
use crate::task::{CheckpointSetup, Ending, Task};

/// How long a task waits to be canceled after a failure that began in another task.
const CAUSE_PATIENCE: Duration = Duration::from_secs(1);

/// Events that may wait to be taken; a task's thread waits while there are more.
const EVENT_QUEUE: usize = 256;

/// What tasks tell.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a few a second at most; they are moved, not kept"
)]
pub enum TaskEvent {
    /// A task's state has changed.
    State(TaskReport),
    /// Its part of a checkpoint is in storage.
    Acknowledge(control::AcknowledgeCheckpoint),
    /// There will be no part of it.
    Decline(control::DeclineCheckpoint),
    /// How far a task is whose watermarks are aligned.
    Watermark(control::ReportWatermark),
}

/// Where tasks run.
#[derive(Debug, Clone)]
pub struct ExecutorSettings {
    /// Memory that the state of one operator's subtask may hold.
    pub state_memory_bytes: usize,
    /// What operators and barriers are timed by.
    pub clock: Clock,
    /// Where copies of state files may be kept; `None` = nowhere.
    pub local_state: Option<LocalStateSettings>,
}

impl Default for ExecutorSettings {
    /// Without a limit, the system's folder and clock: for tests.
    fn default() -> Self {
        Self {
            state_memory_bytes: usize::MAX,
            clock: Clock::system(),
            local_state: None,
        }
    }
}

/// What a task tells of itself.
#[derive(Debug, Clone)]
pub struct TaskReport {
    /// Its new state.
    pub update: control::TaskStateUpdate,
    /// With a terminal state: what it counted to its end.
    pub metrics: Option<control::TaskMetrics>,
}

struct RunningTask {
    attempt: control::ExecutionAttempt,
    state: TaskState,
    mailbox: Arc<Mailbox>,
    counters: Arc<TaskCounters>,
}

struct Shared {
    program: JobProgram,
    exchange: Arc<Exchange>,
    io: Handle,
    settings: ExecutorSettings,
    /// Made for the first task: the job's configuration says how storage is reached.
    store: OnceLock<SnapshotStore>,
    /// Of state files, on this machine; opened for the first task too.
    copies: OnceLock<Option<LocalCopies>>,
    /// For state that memory has no room for.
    disk: DiskFolder,
    events: mpsc::Sender<TaskEvent>,
    tasks: Mutex<HashMap<ExecutionId, RunningTask>>,
}

/// Runs the tasks of one job in this process. Dropping it cancels them all.
pub struct TaskExecutor {
    shared: Arc<Shared>,
}

impl TaskExecutor {
    /// An executor for one program, whose connectors do their I/O on `io`; and what its tasks tell.
    /// The events must be taken: tasks wait while the queue is full.
    pub fn new(
        program: JobProgram,
        exchange: Arc<Exchange>,
        io: Handle,
        settings: ExecutorSettings,
    ) -> (Self, mpsc::Receiver<TaskEvent>) {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let shared = Shared {
            program,
            exchange,
            io,
            settings,
            store: OnceLock::new(),
            copies: OnceLock::new(),
            disk: DiskFolder::default(),
            events,
            tasks: Mutex::default(),
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            receiver,
        )
    }

    /// Starts a task. Everything from here on is reported by the task itself; an error means that none was started.
    pub fn deploy(&self, deployment: &control::TaskDeployment) -> Result<(), TaskError> {
        let plan = TaskPlan::new(deployment, &self.shared.program)?;
        let execution = plan.execution;
        let task_name = plan.task_name.to_string();
        let mailbox = Arc::new(Mailbox::default());
        let counters = Arc::new(counters(&plan));
        let running = RunningTask {
            attempt: plan.attempt.clone(),
            state: TaskState::Deploying,
            mailbox: mailbox.clone(),
            counters: counters.clone(),
        };
        match self.shared.lock().entry(execution) {
            Entry::Occupied(_) => {
                return Err(TaskError::AlreadyRunning {
                    execution: execution.to_string(),
                });
            }
            Entry::Vacant(place) => place.insert(running),
        };
        let shared = self.shared.clone();
        let spawned = thread::Builder::new()
            .name(task_name.replace('\0', ""))
            .spawn(move || shared.run(&plan, &mailbox, &counters));
        match spawned {
            Ok(_) => Ok(()),
            Err(source) => {
                self.shared.lock().remove(&execution);
                Err(TaskError::SpawnThread {
                    task: task_name,
                    source,
                })
            }
        }
    }

    /// Asks a task to end; false if it does not run here. The task reports CANCELED, or FINISHED if it was quicker.
    pub fn cancel(&self, execution: &ExecutionId) -> bool {
        self.shared
            .lock()
            .get(execution)
            .map(|task| task.mailbox.cancel())
            .is_some()
    }

    /// Asks a source, or a task whose inputs have all ended, to begin a checkpoint; the error says why it will not.
    pub fn trigger(
        &self,
        execution: &ExecutionId,
        trigger: &control::TriggerCheckpoint,
    ) -> Result<(), (CheckpointFailureReason, Failure)> {
        let tasks = self.shared.lock();
        let Some(task) = tasks.get(execution) else {
            return Ok(()); // how it ended has been reported, which says all that a refusal would
        };
        if task.state != TaskState::Running {
            let reason = CheckpointFailureReason::TaskNotReady;
            return Err((reason, refusal(format!("{execution} is not running yet"))));
        }
        if !task.mailbox.trigger(Barrier::of_trigger(trigger)) {
            let failure = refusal(format!(
                "{execution} has too many checkpoints waiting to begin: it may be backpressured"
            ));
            return Err((CheckpointFailureReason::TooManyRequests, failure));
        }
        Ok(())
    }

    /// Tells a task how a checkpoint ended; one that has ended needs it no more.
    pub fn notify(&self, execution: &ExecutionId, checkpoint_id: u64, completed: bool) {
        if let Some(task) = self.shared.lock().get(execution) {
            task.mailbox.notify(checkpoint_id, completed);
        }
        if completed
            && let Some(Some(copies)) = self.shared.copies.get()
            && copies.is_news(checkpoint_id)
        {
            let copies = copies.clone();
            self.shared
                .io
                .spawn_blocking(move || copies.completed(checkpoint_id));
        }
    }

    /// Tells a task how far watermark alignment lets it go; one that has ended needs it no more.
    pub fn align(&self, execution: &ExecutionId, max_watermark_ms: i64) {
        if let Some(task) = self.shared.lock().get(execution) {
            task.mailbox.align(max_watermark_ms);
        }
    }

    /// Asks all tasks to end.
    pub fn cancel_all(&self) {
        self.shared.lock().values().for_each(|task| task.mailbox.cancel());
    }

    /// The tasks that have not ended, with their states.
    pub fn running(&self) -> Vec<control::TaskStateUpdate> {
        let tasks = self.shared.lock();
        let mut running: Vec<_> = tasks
            .values()
            .map(|task| state_update(&task.attempt, task.state, None))
            .collect();
        running.sort_by_key(|update| {
            update
                .execution
                .as_ref()
                .map(|id| (id.vertex_id.clone(), id.subtask))
        });
        running
    }

    /// What the tasks that have not ended count; time shares are those since the last call.
    pub fn metrics(&self) -> Vec<control::TaskMetrics> {
        let now = Instant::now();
        self.shared
            .lock()
            .values()
            .map(|task| task.counters.snapshot(now))
            .collect()
    }
}

impl Drop for TaskExecutor {
    fn drop(&mut self) {
        self.cancel_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<ExecutionId, RunningTask>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task's thread, from start to end.
    fn run(&self, plan: &TaskPlan, mailbox: &Arc<Mailbox>, counters: &Arc<TaskCounters>) {
        mailbox.parker().attach();
        self.report(plan, TaskState::Deploying);
        let outcome = panics::catch(&plan.task_name, || self.execute(plan, mailbox, counters));
        if !matches!(outcome, Ok(Ending::Finished(_))) {
            self.exchange.release(plan.execution);
        }
        if let Err(error) = &outcome
            && error.follows_from_another_task()
        {
            await_cancel(mailbox);
        }
        let (state, failure, final_snapshot) = verdict(outcome, mailbox.is_canceled());
        if let Some(failure) = &failure {
            tracing::warn!(task = %plan.task_name, message = %failure.message, detail = %failure.detail, "task failed");
        }
        self.lock().remove(&plan.execution);
        // Triggers that came too late need no answer: the report says more.
        let mut update = state_update(&plan.attempt, state, failure);
        update.final_snapshot = final_snapshot;
        self.send(TaskReport {
            update,
            metrics: Some(counters.snapshot(Instant::now())),
        });
    }

    fn execute(
        &self,
        plan: &TaskPlan,
        mailbox: &Arc<Mailbox>,
        counters: &Arc<TaskCounters>,
    ) -> Result<Ending, TaskError> {
        if mailbox.is_canceled() {
            return Ok(Ending::Canceled);
        }
        self.report(plan, TaskState::Initializing);
        let copies = self.copies.get_or_init(|| {
            let settings = self.settings.local_state.as_ref();
            local::open(settings, &plan.configuration, plan.execution.job)
        });
        if let Some(copies) = copies {
            local::note_restore(copies, &plan.restore);
        }
        let store = self.store.get_or_init(|| {
            let files = FileSystems::new(plan.configuration.clone()).with_copies(copies.clone());
            // The JobManager refused malformed values.
            let merging = FileMerging::from_configuration(&plan.configuration).unwrap_or_default();
            let clock = self.settings.clock.clone();
            SnapshotStore::new(files)
                .with_clock(move || clock.now_ms())
                .with_file_merging(merging)
        });
        let Some(restored) = restore::read(plan, store, &self.io, mailbox)? else {
            return Ok(Ending::Canceled);
        };
        let place = Place {
            exchange: &self.exchange,
            io: &self.io,
            clock: &self.settings.clock,
            state: Arc::new(
                self.disk
                    .state_settings(&plan.configuration, self.settings.state_memory_bytes)?,
            ),
        };
        let (chain, input) = assemble(plan, &place, counters, restored)?;
        let setup = CheckpointSetup {
            uploader: Uploader {
                store: store.for_task(),
                copies: copies.clone(),
                io: self.io.clone(),
                events: self.events.clone(),
            },
            attempt: plan.attempt.clone(),
            channels: plan
                .channels
                .iter()
                .map(|channel| (channel.edge, channel.producer.subtask))
                .collect(),
            last_checkpoint: plan.last_checkpoint,
            restored_from: plan.restore.checkpoint_id,
        };
        let clock = self.settings.clock.clone();
        let alignment = plan.alignment.clone().map(|alignment| {
            Alignment::new(
                alignment,
                plan.attempt.clone(),
                self.events.clone(),
                Instant::now(),
            )
        });
        let mut task = Task::new(
            chain,
            input,
            mailbox.clone(),
            counters.clone(),
            setup,
            alignment,
            clock,
        );
        if !task.open()? {
            return Ok(Ending::Canceled);
        }
        self.report(plan, TaskState::Running);
        panics::catch(&plan.task_name, || task.run()).map_err(|error| task.located(&plan.task_name, error))
    }

    fn report(&self, plan: &TaskPlan, state: TaskState) {
        if let Some(task) = self.lock().get_mut(&plan.execution) {
            task.state = state;
        }
        self.send(TaskReport {
            update: state_update(&plan.attempt, state, None),
            metrics: None,
        });
    }

    fn send(&self, report: TaskReport) {
        self.tell(TaskEvent::State(report));
    }

    fn tell(&self, event: TaskEvent) {
        // Nobody takes events any more: the process is ending.
        let _ = self.events.blocking_send(event);
    }
}

/// The task at the other end of a channel has failed: its own report says why, and cancels this one. Without this wait the two reports
/// would race, and the job's failure could be the one that explains nothing.
fn await_cancel(mailbox: &Mailbox) {
    let until = Instant::now() + CAUSE_PATIENCE;
    while !mailbox.is_canceled() && Instant::now() < until {
        mailbox.parker().clear();
        if !mailbox.is_canceled() {
            mailbox.parker().wait(Some(until));
        }
    }
}

/// What is reported at the end. Errors that follow from a cancel, as of channels that others released, are no failures.
fn verdict(
    outcome: Result<Ending, TaskError>,
    canceled: bool,
) -> (TaskState, Option<Failure>, Option<TaskSnapshot>) {
    match outcome {
        Ok(Ending::Finished(snapshot)) => (TaskState::Finished, None, snapshot),
        Ok(Ending::Canceled) => (TaskState::Canceled, None, None),
        Err(_) if canceled => (TaskState::Canceled, None, None),
        Err(error) => (TaskState::Failed, Some(error.to_failure()), None),
    }
}

fn counters(plan: &TaskPlan) -> TaskCounters {
    let operators = plan.nodes.iter().map(|node| {
        Arc::new(OperatorCounters::new(
            node.node,
            node.operator_id.to_string(),
            node.name.clone(),
        ))
    });
    TaskCounters::new(
        plan.attempt.clone(),
        plan.vertex_name.clone(),
        operators.collect(),
        Instant::now(),
    )
}

/// A state as it travels.
pub(crate) fn state_update(
    attempt: &control::ExecutionAttempt,
    state: TaskState,
    failure: Option<Failure>,
) -> control::TaskStateUpdate {
    control::TaskStateUpdate {
        execution: Some(attempt.clone()),
        state: state.into(),
        failure: failure.map(failure_message),
        metrics: None,
        final_snapshot: None,
    }
}

/// A failure as it travels.
pub(crate) fn failure_message(failure: Failure) -> control::Failure {
    let class = match failure.class {
        FailureClass::Retryable => control::FailureClass::Retryable,
        FailureClass::Fatal => control::FailureClass::Fatal,
        FailureClass::Bug => control::FailureClass::Bug,
    };
    control::Failure {
        class: class.into(),
        message: failure.message,
        detail: failure.detail,
    }
}

#[cfg(test)]
mod tests;
