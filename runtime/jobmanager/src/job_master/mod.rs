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

mod alignment;
mod checkpoints;
mod deployment;
mod ended;
mod operations;
mod recovery;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use thalweg_checkpoint as checkpoint;
use thalweg_graph::execution::{
    Action, ExecutionGraph, Fact, JobStatus, TaskReport, TaskState, TimerId, execution_id,
};
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, DeclineCheckpoint, ReportWatermark, TaskDeployment, TaskMetrics,
};
use thalweg_proto::graph::v1::JobGraph;
use thalweg_proto::state::v1::TaskSnapshot;
use thalweg_types::config::{Configuration, options};
use thalweg_types::{ExecutionId, Failure, FailureClass, TaskManagerId, VertexId};

use crate::config::Settings;
use crate::dispatcher::Submission;
use crate::resource_manager::SlotId;
use crate::storage_work::{StorageOutcome, StorageRequest, StorageWork};
use alignment::Alignment;
use checkpoints::Consequence;
pub(crate) use checkpoints::{Checkpoints, SnapshotRequest};
use deployment::{StartOutcome, Workers};
pub(crate) use ended::{JobOver, LoggedEnd};
pub(crate) use operations::{Made, Operation, OperationKind};
pub(crate) use recovery::{Dispensable, LOOK_AGAIN_MS, Recovered};

const WAIT_FOR_EVER: &str = "36500 d";

/// What a job wants done.
#[derive(Debug)]
pub(crate) enum JobAction {
    /// To a TaskManager, if it is still there.
    Send(TaskManagerId, Box<Command>),
    /// It needs so many slots beyond those that it holds (0 = no more), and where it had better have them.
    DeclareSlots(u32, Vec<SlotId>),
    /// It gives slots back.
    ReleaseSlots(Vec<SlotId>),
    /// After so many milliseconds.
    SetTimer(u64, JobTimer),
    /// In storage; the job is told how it ended.
    Storage(Box<StorageWork>),
    /// An operation on its snapshots has ended; [`JobMaster::show`] tells it.
    OperationEnded(Box<Operation>),
    /// These attempts of regions, each named by one of its tasks, will be deployed when storage has confirmed it.
    AttemptsBegin(BTreeMap<(VertexId, u32), u32>),
    /// It has reached a terminal state.
    Ended,
}

/// What is told once the job's log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// How an operation on its snapshots ended, by its id.
    Operation(String),
    /// Its own end.
    End,
    /// Nothing: attempts were about to be deployed.
    Attempts,
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
    /// Time to look whether what nobody has reported is waited for any longer.
    Missing,
    /// Its checkpoints' next one.
    Checkpoints,
    /// An aligned vertex, by its place, is told how far it may go.
    Alignment(usize),
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
    alignment: Alignment,
    workers: Workers,
    settings: Arc<Settings>,
    configuration: Configuration,
    operation_id: String,
    is_application: bool,
    started_ms: u64,
    /// By the clock of the leader that took it first: the same under each that follows.
    submitted_ms: u64,
    /// Of the leader that this is.
    epoch: u64,
    /// When this leader took it over; 0 = it began here.
    recovered_ms: u64,
    /// The newest attempts of regions that were begun, as the log has them.
    begun: BTreeMap<(VertexId, u32), u32>,
    /// The savepoint that an earlier leader did not stop it with after all.
    stop_given_up: Option<u64>,
    /// It has ended, and the log does not have that yet.
    end_is_hidden: bool,
    /// Why this leader can't go on with it.
    given_up: Option<Failure>,
    /// By vertex and subtask: the newest counters of the current or the last attempt.
    metrics: HashMap<(usize, u32), TaskMetrics>,
    /// Whether another JobManager may have to go on with it.
    is_recoverable: bool,
    /// Deployments, and cancellations behind them, that wait.
    held: Vec<Action>,
    /// Asked for and not answered.
    confirmations: usize,
}

impl JobMaster {
    /// Takes a job and begins to schedule it.
    pub(crate) fn start(
        mut submission: Submission,
        settings: &Arc<Settings>,
        epoch: u64,
        now_ms: u64,
    ) -> Result<(Self, Vec<JobAction>), Failure> {
        let graph = ExecutionGraph::new(patient(submission.job_graph.clone()), now_ms);
        let graph = graph.map_err(|error| Failure::from_error(&error))?;
        let checkpoints = Checkpoints::new(&mut submission)?;
        let mut master = Self::new(graph, checkpoints, submission, settings, epoch, now_ms);
        let mut actions = master.alignment.start();
        actions.extend(master.apply(Fact::Start, now_ms));
        Ok((master, actions))
    }

    fn new(
        graph: ExecutionGraph,
        checkpoints: Checkpoints,
        submission: Submission,
        settings: &Arc<Settings>,
        epoch: u64,
        started_ms: u64,
    ) -> Self {
        Self {
            alignment: Alignment::new(&graph),
            graph,
            epoch,
            submitted_ms: submission.submitted_ms,
            recovered_ms: 0,
            begun: BTreeMap::new(),
            stop_given_up: None,
            end_is_hidden: false,
            given_up: None,
            checkpoints,
            settings: settings.clone(),
            configuration: submission.configuration.clone(),
            operation_id: submission.operation_id.clone(),
            is_application: submission.is_application,
            started_ms,
            metrics: HashMap::new(),
            is_recoverable: submission.recoverable,
            held: Vec::new(),
            confirmations: 0,
            workers: Workers::new(submission),
        }
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
        let slots = by_task_manager;
        self.apply(Fact::SlotsGranted { slots }, now_ms)
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

    /// A task of an alignment group said how far it is.
    pub(crate) fn watermark_reported(&mut self, execution: ExecutionId, report: &ReportWatermark) {
        self.alignment.report(execution, report, &self.graph);
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
        if outcome == StorageOutcome::Confirmed {
            self.confirmations = self.confirmations.saturating_sub(1);
        }
        let consequences = self.checkpoints.storage_done(&self.graph, outcome, now_ms);
        let mut actions = self.carry_out(consequences, now_ms);
        actions.extend(self.let_held_go(now_ms));
        actions
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

    /// It has ended, which is not to be told before [`JobMaster::show`].
    pub(crate) fn hide_end(&mut self) {
        self.end_is_hidden = true;
    }

    /// What was held back may be told.
    pub(crate) fn show(&mut self, news: &News) {
        match news {
            News::Operation(id) => self.checkpoints.show(id),
            News::End => self.end_is_hidden = false,
            News::Attempts => {}
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
            // The Dispatcher's: it knows how much room there is.
            JobTimer::Missing => Vec::new(),
            JobTimer::Checkpoints => {
                let consequences = self.checkpoints.tick(&self.graph, now_ms);
                self.carry_out(consequences, now_ms)
            }
            JobTimer::Alignment(place) => self.alignment.announce(place, &self.graph),
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
        self.consequences_of(actions, now_ms)
    }

    fn consequences_of(&mut self, actions: Vec<Action>, now_ms: u64) -> Vec<JobAction> {
        // Before anything is deployed; what follows for the graph comes after this fact's own actions.
        let consequences = self.checkpoints.observe(&self.graph, now_ms);
        let (held, actions) = actions.into_iter().partition(|action| self.is_held(action));
        let mut waits = self.hold(held);
        waits.extend(self.follow(actions, consequences, now_ms));
        waits
    }

    fn follow(
        &mut self,
        actions: Vec<Action>,
        mut consequences: Vec<Consequence>,
        now_ms: u64,
    ) -> Vec<JobAction> {
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
                        for task in &mut tasks {
                            task.job_started_ms = self.submitted_ms;
                            task.leader_epoch = self.epoch;
                        }
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

    /// Where another JobManager may lead by now, nothing is deployed before it is known that none does, and from which checkpoint: what
    /// a sink starts with puts an end to what later leaders' tasks prepared. A task that is to be canceled meanwhile is deployed first.
    fn is_held(&self, action: &Action) -> bool {
        match action {
            Action::Deploy { .. } => self.is_recoverable,
            Action::Cancel { .. } => !self.held.is_empty(),
            _ => false,
        }
    }

    fn hold(&mut self, held: Vec<Action>) -> Vec<JobAction> {
        let asks = held.iter().any(|action| matches!(action, Action::Deploy { .. }));
        self.held.extend(held);
        if !asks {
            return Vec::new();
        }
        self.confirmations += 1;
        let begin = JobAction::AttemptsBegin(self.begin_held());
        vec![begin, self.checkpoints.work(StorageRequest::Confirm)]
    }

    /// Of what is held back the regions that begin anew.
    fn begin_held(&mut self) -> BTreeMap<(VertexId, u32), u32> {
        let deployments = self.held.iter().filter_map(|action| match action {
            Action::Deploy { tasks, .. } => Some(tasks),
            _ => None,
        });
        let tasks = deployments.flatten().filter_map(|task| task.execution.as_ref());
        let mut regions = self
            .graph
            .regions_of(tasks.filter_map(|task| execution_id(task).ok()));
        // There is none before the first.
        regions.retain(|region, attempt| *attempt > self.begun.get(region).copied().unwrap_or(0));
        self.begun.extend(regions.clone());
        regions
    }

    /// What waited for it goes on, as far as it still holds.
    fn let_held_go(&mut self, now_ms: u64) -> Vec<JobAction> {
        if self.held.is_empty() || self.confirmations > 0 || self.checkpoints.is_completing() {
            return Vec::new();
        }
        let mut held = std::mem::take(&mut self.held);
        for action in &mut held {
            if let Action::Deploy { task_manager, tasks } = action {
                let is_wanted = |task: &TaskDeployment| {
                    let id = task
                        .execution
                        .as_ref()
                        .and_then(|execution| execution_id(execution).ok());
                    let execution = id.and_then(|id| self.graph.execution_of(id));
                    execution.is_some_and(|execution| {
                        !execution.state.is_terminal()
                            && execution.task_manager.as_ref() == Some(task_manager)
                    })
                };
                tasks.retain(is_wanted);
            }
        }
        self.follow(held, Vec::new(), now_ms)
    }

    fn translate(&mut self, action: Action) -> Vec<JobAction> {
        match action {
            Action::DeclareSlots { required, held } => {
                let wanted = self.graph.wanted_slots().map(|(task_manager, index)| SlotId {
                    task_manager: task_manager.clone(),
                    index,
                });
                let wanted = wanted.collect();
                vec![JobAction::DeclareSlots(required.saturating_sub(held), wanted)]
            }
            Action::ReleaseSlots { task_manager, slots } => {
                let unused = self.workers.release(&task_manager, &slots);
                let slots = slots.into_iter().map(|index| SlotId {
                    task_manager: task_manager.clone(),
                    index,
                });
                let release = JobAction::ReleaseSlots(slots.collect());
                let unused = unused.map(|command| JobAction::Send(task_manager, command));
                unused.into_iter().chain([release]).collect()
            }
            Action::StartWorker {
                task_manager,
                generation,
                slots,
            } => {
                let start = self
                    .workers
                    .start(&task_manager, generation, slots, self.graph.job_graph());
                let start = start.map(|command| self.start_of(task_manager, generation, command));
                start.into_iter().flatten().collect()
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

    fn start_of(
        &self,
        task_manager: TaskManagerId,
        generation: u64,
        command: Box<Command>,
    ) -> [JobAction; 2] {
        // The TaskManager itself watches the process; this is for one that says nothing at all.
        let limit_ms = self.settings.worker_start_timeout.as_millis() as u64 * 2;
        let timer = JobTimer::WorkerStart {
            task_manager: task_manager.clone(),
            generation,
        };
        [
            JobAction::Send(task_manager, command),
            JobAction::SetTimer(limit_ms, timer),
        ]
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
        self.held.clear();
        vec![JobAction::Ended]
    }
}

/// A job waits for its slots as long as it takes, unless somebody asked for a limit: TaskManagers come when they come.
fn patient(mut job_graph: JobGraph) -> JobGraph {
    let limit = job_graph
        .configuration
        .entry(options::SLOT_REQUEST_TIMEOUT.key.to_owned());
    limit.or_insert_with(|| WAIT_FOR_EVER.to_owned());
    job_graph
}
