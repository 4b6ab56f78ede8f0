//! One job's master: it turns what happens into facts for the ExecutionGraph, and what the graph wants into messages.
//!
//! ```text
//!   TaskManagers, slots, timers --Fact--> ExecutionGraph (pure, thalweg_graph) --Action--> commands, slots, timers
//!                 |                 worker starts: tried again, timed --^-- cancellation: timed
//!                 `-- checkpoints: CheckpointCoordinator --> commands, storage; what a deployment restores
//! ```
//!
//! What the graph leaves to the master: a worker that can't be started at once is tried again before it counts as a failure (a
//! slot may still be on its way out of another job's hands), a worker that does not come up in time has failed, and a task
//! that does not end though it was canceled costs its worker.

mod checkpoints;
mod deployment;
mod operations;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use thalweg_checkpoint as checkpoint;
use thalweg_graph::execution::{
    Action, Execution, ExecutionGraph, Fact, FailureEntry, JobStatus, TaskReport, TaskState, TimerId,
};
use thalweg_proto::cluster::v1 as cluster;
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::{AcknowledgeCheckpoint, DeclineCheckpoint, TaskMetrics};
use thalweg_proto::graph::v1::JobGraph;
use thalweg_proto::state::v1::TaskSnapshot;
use thalweg_types::config::{Configuration, options};
use thalweg_types::{ExecutionId, Failure, FailureClass, JobId, TaskManagerId, VertexId};

use crate::config::Settings;
use crate::dispatcher::Submission;
use crate::failure::failure_to_proto;
use crate::resource_manager::SlotId;
use crate::storage_work::{StorageOutcome, StorageWork};
use checkpoints::Consequence;
pub(crate) use checkpoints::{Checkpoints, SnapshotRequest};
use deployment::{StartOutcome, Workers};
pub(crate) use operations::{Operation, OperationKind};

const WAIT_FOR_EVER: &str = "36500 d";

/// What a job wants done.
#[derive(Debug)]
pub(crate) enum JobAction {
    /// To a TaskManager, if it is still there.
    Send(TaskManagerId, Box<Command>),
    /// It needs so many slots beyond those that it holds; 0 = no more.
    DeclareSlots(u32),
    /// It gives slots back.
    ReleaseSlots(Vec<SlotId>),
    /// After so many milliseconds.
    SetTimer(u64, JobTimer),
    /// In storage; the job is told how it ended.
    Storage(Box<StorageWork>),
    /// It has reached a terminal state.
    Ended,
}

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobTimer {
    /// The graph's own.
    Graph(TimerId),
    /// Start a worker again.
    StartAgain {
        task_manager: TaskManagerId,
        generation: u64,
    },
    /// A worker should be ready by then.
    WorkerStart {
        task_manager: TaskManagerId,
        generation: u64,
    },
    /// Its checkpoints' next one.
    Checkpoints,
    /// Canceled tasks should have ended by then.
    Cancellation {
        task_manager: TaskManagerId,
        executions: Vec<ExecutionId>,
    },
}

/// A job from its submission on.
pub(crate) struct JobMaster {
    graph: ExecutionGraph,
    checkpoints: Checkpoints,
    workers: Workers,
    settings: Arc<Settings>,
    configuration: Configuration,
    operation_id: String,
    is_application: bool,
    started_ms: u64,
    /// By vertex and subtask: the newest counters of the current or the last attempt.
    metrics: HashMap<(usize, u32), TaskMetrics>,
}

impl JobMaster {
    /// Takes a job and begins to schedule it.
    pub(crate) fn start(
        mut submission: Submission,
        settings: &Arc<Settings>,
        now_ms: u64,
    ) -> Result<(Self, Vec<JobAction>), Failure> {
        let mut job_graph = submission.job_graph.clone();
        // A job waits for its slots as long as it takes, unless somebody asked for a limit: TaskManagers come when they come.
        let limit = job_graph
            .configuration
            .entry(options::SLOT_REQUEST_TIMEOUT.key.to_owned());
        limit.or_insert_with(|| WAIT_FOR_EVER.to_owned());
        let graph = ExecutionGraph::new(job_graph, now_ms).map_err(|error| Failure::from_error(&error))?;
        let checkpoints = Checkpoints::new(&mut submission)?;
        let mut master = Self {
            graph,
            checkpoints,
            settings: settings.clone(),
            configuration: submission.configuration.clone(),
            operation_id: submission.operation_id.clone(),
            is_application: submission.is_application,
            started_ms: now_ms,
            metrics: HashMap::new(),
            workers: Workers::new(submission),
        };
        let actions = master.apply(Fact::Start, now_ms);
        Ok((master, actions))
    }

    // ---- what happens ----

    pub(crate) fn slots_granted(&mut self, slots: Vec<SlotId>, now_ms: u64) -> Vec<JobAction> {
        let mut by_task_manager: BTreeMap<TaskManagerId, Vec<u32>> = BTreeMap::new();
        for slot in slots {
            by_task_manager
                .entry(slot.task_manager)
                .or_default()
                .push(slot.index);
        }
        let facts = by_task_manager
            .into_iter()
            .map(|(task_manager, slots)| Fact::SlotsGranted { task_manager, slots });
        facts.flat_map(|fact| self.apply(fact, now_ms)).collect()
    }

    pub(crate) fn task_manager_lost(
        &mut self,
        task_manager: &TaskManagerId,
        reason: &str,
        now_ms: u64,
    ) -> Vec<JobAction> {
        self.workers.forget(task_manager);
        let message = format!("TaskManager {task_manager} is lost: {reason}");
        let failure = Failure::new(FailureClass::Retryable, message);
        self.apply(
            Fact::TaskManagerLost {
                task_manager: task_manager.clone(),
                failure,
            },
            now_ms,
        )
    }

    pub(crate) fn worker_ready(
        &mut self,
        task_manager: &TaskManagerId,
        generation: u64,
        data_address: &str,
        now_ms: u64,
    ) -> Vec<JobAction> {
        self.workers.ready(task_manager, generation);
        let (task_manager, data_address) = (task_manager.clone(), data_address.to_owned());
        self.apply(
            Fact::WorkerReady {
                task_manager,
                generation,
                data_address,
            },
            now_ms,
        )
    }

    pub(crate) fn worker_failed(
        &mut self,
        task_manager: &TaskManagerId,
        generation: u64,
        failure: &Failure,
        now_ms: u64,
    ) -> Vec<JobAction> {
        match self.workers.failed(task_manager, generation, failure) {
            StartOutcome::TryAgain(delay_ms) => {
                tracing::warn!(job = %self.id(), %task_manager, reason = failure.message, "a worker did not start, trying again");
                let task_manager = task_manager.clone();
                vec![JobAction::SetTimer(
                    delay_ms,
                    JobTimer::StartAgain {
                        task_manager,
                        generation,
                    },
                )]
            }
            StartOutcome::Failed => {
                let message = format!("worker on TaskManager {task_manager}: {}", failure.message);
                let failure = Failure {
                    message,
                    ..failure.clone()
                };
                self.apply(
                    Fact::WorkerFailed {
                        task_manager: task_manager.clone(),
                        generation,
                        failure,
                    },
                    now_ms,
                )
            }
        }
    }

    /// `final_snapshot`: of a task that has finished, the state that belongs to every later checkpoint.
    pub(crate) fn task_state(
        &mut self,
        report: TaskReport,
        final_snapshot: Option<TaskSnapshot>,
        now_ms: u64,
    ) -> Vec<JobAction> {
        let execution = report.execution;
        let was_finished = self.is_in(&execution, TaskState::Finished);
        if report.state == TaskState::Finished && !was_finished {
            self.checkpoints.note_final_snapshot(execution, final_snapshot);
        }
        self.apply(Fact::TaskState(report), now_ms)
    }

    // ---- checkpoints ----

    pub(crate) fn checkpoint_acknowledged(
        &mut self,
        acknowledge: AcknowledgeCheckpoint,
        now_ms: u64,
    ) -> Vec<JobAction> {
        let event = checkpoint::Event::Acknowledge(acknowledge);
        let consequences = self.checkpoints.handle(event, &self.graph, now_ms);
        self.carry_out(consequences, now_ms)
    }

    pub(crate) fn checkpoint_declined(&mut self, decline: DeclineCheckpoint, now_ms: u64) -> Vec<JobAction> {
        let event = checkpoint::Event::Decline(decline);
        let consequences = self.checkpoints.handle(event, &self.graph, now_ms);
        self.carry_out(consequences, now_ms)
    }

    pub(crate) fn storage_done(&mut self, outcome: StorageOutcome, now_ms: u64) -> Vec<JobAction> {
        let consequences = self.checkpoints.storage_done(&self.graph, outcome, now_ms);
        self.carry_out(consequences, now_ms)
    }

    /// Begins a snapshot: its operation's id, or why it can't begin. The same id again changes nothing.
    pub(crate) fn trigger_snapshot(
        &mut self,
        request: SnapshotRequest,
        now_ms: u64,
    ) -> (Result<String, Failure>, Vec<JobAction>) {
        let id = request.operation_id.clone();
        match self.checkpoints.trigger(&self.graph, request, now_ms) {
            Ok(consequences) => (Ok(id), self.carry_out(consequences, now_ms)),
            Err(failure) => (Err(failure), Vec::new()),
        }
    }

    fn carry_out(&mut self, consequences: Vec<Consequence>, now_ms: u64) -> Vec<JobAction> {
        let mut actions = Vec::new();
        for consequence in consequences {
            match consequence {
                Consequence::Do(action) => actions.push(action),
                Consequence::Fail(failure) => {
                    actions.extend(self.apply(Fact::JobFailed { failure }, now_ms));
                }
                Consequence::Cancel => actions.extend(self.apply(Fact::CancelRequested, now_ms)),
            }
        }
        actions.extend(self.checkpoints.next_timer(now_ms));
        actions
    }

    /// Idempotent; a job that has ended stays as it is.
    pub(crate) fn cancel(&mut self, now_ms: u64) -> Vec<JobAction> {
        self.apply(Fact::CancelRequested, now_ms)
    }

    pub(crate) fn timer(&mut self, timer: JobTimer, now_ms: u64) -> Vec<JobAction> {
        match timer {
            JobTimer::Graph(timer) => self.apply(Fact::TimerElapsed { timer }, now_ms),
            JobTimer::Checkpoints => {
                let consequences = self.checkpoints.tick(&self.graph, now_ms);
                self.carry_out(consequences, now_ms)
            }
            JobTimer::StartAgain {
                task_manager,
                generation,
            } => {
                let start = self
                    .workers
                    .start_again(&task_manager, generation, self.graph.job_graph());
                start
                    .map(|start| JobAction::Send(task_manager, start))
                    .into_iter()
                    .collect()
            }
            JobTimer::WorkerStart {
                task_manager,
                generation,
            } => {
                if !self.workers.is_starting(&task_manager, generation) {
                    return Vec::new();
                }
                let limit = self.settings.worker_start_timeout;
                let message = format!("it was not ready within {limit:?} (thalweg.worker.start-timeout)");
                self.end_worker(&task_manager, &message, now_ms)
            }
            JobTimer::Cancellation {
                task_manager,
                executions,
            } => {
                let stuck: Vec<&ExecutionId> = executions
                    .iter()
                    .filter(|id| self.is_in(id, TaskState::Canceling))
                    .collect();
                let Some(first) = stuck.first() else {
                    return Vec::new();
                };
                let message = format!(
                    "{} canceled tasks, {} among them, did not end within {:?} (task.cancellation.timeout)",
                    stuck.len(),
                    self.task_name(first),
                    self.settings.cancellation_timeout
                );
                self.end_worker(&task_manager, &message, now_ms)
            }
        }
    }

    fn is_in(&self, id: &ExecutionId, state: TaskState) -> bool {
        let execution = self.graph.execution_of(*id);
        execution.is_some_and(|execution| execution.state == state)
    }

    /// Kills a worker and goes on as if it had ended by itself.
    fn end_worker(&mut self, task_manager: &TaskManagerId, reason: &str, now_ms: u64) -> Vec<JobAction> {
        let Some((generation, stop)) = self.workers.stop(task_manager) else {
            return Vec::new();
        };
        let mut actions = vec![JobAction::Send(task_manager.clone(), stop)];
        let message = format!("worker on TaskManager {task_manager} was stopped: {reason}");
        let failure = Failure::new(FailureClass::Retryable, message);
        actions.extend(self.apply(
            Fact::WorkerFailed {
                task_manager: task_manager.clone(),
                generation,
                failure,
            },
            now_ms,
        ));
        actions
    }

    /// The newest counters of a task; those of another attempt than the current one are late.
    pub(crate) fn note_metrics(&mut self, execution: ExecutionId, metrics: &TaskMetrics) {
        let Some(vertex) = self.graph.vertex_position(execution.vertex) else {
            return;
        };
        let current = self.graph.executions(vertex).get(execution.subtask as usize);
        if current.is_some_and(|current| current.attempt == execution.attempt) {
            self.metrics.insert((vertex, execution.subtask), metrics.clone());
        }
    }

    // ---- what follows ----

    fn apply(&mut self, fact: Fact, now_ms: u64) -> Vec<JobAction> {
        let actions = self.graph.apply(fact, now_ms, rand::random());
        // Before anything is deployed; what follows for the graph comes after this fact's own actions.
        let mut consequences = self.checkpoints.observe(&self.graph, now_ms);
        let mut translated = Vec::new();
        let mut deployed = false;
        for action in actions {
            match action {
                Action::Deploy {
                    task_manager,
                    mut tasks,
                } => match self.checkpoints.fill_restores(&mut tasks, self.graph.job_graph()) {
                    Ok(()) => {
                        deployed = true;
                        let deploy = |command| JobAction::Send(task_manager.clone(), command);
                        translated.extend(deployment::deploy(tasks).map(deploy));
                    }
                    Err(failure) => consequences.push(Consequence::Fail(failure)),
                },
                action => translated.extend(self.translate(action)),
            }
        }
        if deployed {
            consequences.extend(self.checkpoints.note_restored(&self.graph, now_ms));
        }
        translated.extend(self.carry_out(consequences, now_ms));
        translated
    }

    fn translate(&mut self, action: Action) -> Vec<JobAction> {
        match action {
            Action::DeclareSlots { required, held } => {
                vec![JobAction::DeclareSlots(required.saturating_sub(held))]
            }
            Action::ReleaseSlots { task_manager, slots } => {
                let slots = slots.into_iter();
                let slots = slots.map(|index| SlotId {
                    task_manager: task_manager.clone(),
                    index,
                });
                vec![JobAction::ReleaseSlots(slots.collect())]
            }
            Action::StartWorker {
                task_manager,
                generation,
                slots,
            } => {
                let start = self
                    .workers
                    .start(&task_manager, generation, slots, self.graph.job_graph());
                // The TaskManager itself watches the process; this is for one that says nothing at all.
                let limit_ms = self.settings.worker_start_timeout.as_millis() as u64 * 2;
                let timer = JobTimer::WorkerStart {
                    task_manager: task_manager.clone(),
                    generation,
                };
                vec![
                    JobAction::Send(task_manager, start),
                    JobAction::SetTimer(limit_ms, timer),
                ]
            }
            Action::StopWorker {
                task_manager,
                generation,
            } => {
                let stop = self.workers.stop_generation(&task_manager, generation);
                vec![JobAction::Send(task_manager, stop)]
            }
            // Carried out where it is known what they restore.
            Action::Deploy { .. } => Vec::new(),
            Action::Cancel {
                task_manager,
                executions,
            } => self.cancel_tasks(task_manager, executions),
            Action::SetTimer { timer, after_ms } => {
                vec![JobAction::SetTimer(after_ms, JobTimer::Graph(timer))]
            }
            Action::StatusChanged { from, to } => self.status_changed(from, to),
        }
    }

    fn cancel_tasks(&self, task_manager: TaskManagerId, executions: Vec<ExecutionId>) -> Vec<JobAction> {
        let command = deployment::cancel(&executions);
        let mut actions = vec![JobAction::Send(task_manager.clone(), command)];
        let limit_ms = self.settings.cancellation_timeout.as_millis() as u64;
        if limit_ms > 0 {
            actions.push(JobAction::SetTimer(
                limit_ms,
                JobTimer::Cancellation {
                    task_manager,
                    executions,
                },
            ));
        }
        actions
    }

    fn status_changed(&mut self, from: JobStatus, to: JobStatus) -> Vec<JobAction> {
        tracing::info!(job = %self.id(), name = self.name(), %from, %to, "job state changed");
        if !to.is_terminal() {
            return Vec::new();
        }
        self.workers.let_go();
        vec![JobAction::Ended]
    }

    // ---- what REST, metrics and the operator read ----

    pub(crate) fn id(&self) -> JobId {
        self.graph.job_id()
    }

    pub(crate) fn name(&self) -> &str {
        &self.graph.job_graph().job_name
    }

    pub(crate) fn job_graph(&self) -> &JobGraph {
        self.graph.job_graph()
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Whether it is the application of this JobManager, whose result stays.
    pub(crate) fn is_application(&self) -> bool {
        self.is_application
    }

    pub(crate) fn state_name(&self) -> &'static str {
        self.graph.status().as_str()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.graph.status().is_terminal()
    }

    pub(crate) fn start_ms(&self) -> u64 {
        self.started_ms
    }

    pub(crate) fn state_since_ms(&self) -> u64 {
        self.graph.status_timestamps().latest()
    }

    pub(crate) fn end_ms(&self) -> Option<u64> {
        self.is_ended().then(|| self.state_since_ms())
    }

    /// Each status, and when it was last entered; 0 = never.
    pub(crate) fn timestamps(&self) -> impl Iterator<Item = (&'static str, u64)> {
        JobStatus::ALL.iter().map(|status| {
            (
                status.as_str(),
                self.graph.status_timestamps().of(*status).unwrap_or(0),
            )
        })
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.graph.restarts()
    }

    pub(crate) fn slots_required(&self) -> u32 {
        self.graph.slots_required()
    }

    pub(crate) fn vertex_index(&self, id: VertexId) -> Option<usize> {
        self.graph.vertex_position(id)
    }

    /// The subtasks of a vertex.
    pub(crate) fn tasks(&self, vertex: usize) -> &[Execution] {
        self.graph.executions(vertex)
    }

    pub(crate) fn all_tasks(&self) -> impl Iterator<Item = &Execution> {
        (0..self.job_graph().vertices.len()).flat_map(|vertex| self.graph.executions(vertex))
    }

    pub(crate) fn metrics(&self, vertex: usize, subtask: usize) -> Option<&TaskMetrics> {
        self.metrics.get(&(vertex, subtask as u32))
    }

    /// Newest first.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &FailureEntry> {
        self.graph.failure_history().rev()
    }

    pub(crate) fn last_failure(&self) -> Option<&Failure> {
        self.graph.last_failure().map(|entry| &entry.failure)
    }

    /// Whether it can be ended behind a savepoint.
    pub(crate) fn is_stoppable(&self) -> bool {
        !self.is_ended()
    }

    /// An operation on its snapshots, as long as it is remembered.
    pub(crate) fn operation(&self, id: &str) -> Option<&Operation> {
        self.checkpoints.operation(id)
    }

    /// What REST and metrics say of its checkpoints.
    pub(crate) fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// `Map (2/4)`
    fn task_name(&self, id: &ExecutionId) -> String {
        let vertex = self.graph.vertex_position(id.vertex);
        let vertex = vertex.and_then(|vertex| self.job_graph().vertices.get(vertex));
        vertex.map_or_else(
            || id.to_string(),
            |vertex| format!("{} ({}/{})", vertex.name, id.subtask + 1, vertex.parallelism),
        )
    }

    /// The operator's view. Why it waits for slots is the ResourceManager's to say.
    pub(crate) fn status_message(&self) -> cluster::JobStatus {
        cluster::JobStatus {
            job_id: self.id().to_string(),
            name: self.name().to_owned(),
            state: self.state_name().to_owned(),
            start_time_ms: self.started_ms,
            state_since_ms: self.state_since_ms(),
            restarts: self.restarts(),
            slots_required: self.slots_required(),
            slots_held: self.graph.slots_held(),
            tasks_total: self.graph.tasks_total(),
            tasks_running: self.graph.tasks_in(TaskState::Running),
            last_failure: self.last_failure().map(failure_to_proto),
            operation_id: self.operation_id.clone(),
            waiting_for: self.graph.waiting_for().unwrap_or_default(),
            checkpoints: Some(self.checkpoints.status_message()),
            savepoints: self.checkpoints.savepoints(),
        }
    }
}
