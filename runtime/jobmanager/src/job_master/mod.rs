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
mod consequences;
mod deployment;
mod ended;
mod operations;
mod recovery;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use thalweg_checkpoint as checkpoint;
use thalweg_graph::execution::{Action, ExecutionGraph, Fact, TaskReport, TaskState, TimerId};
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::{AcknowledgeCheckpoint, DeclineCheckpoint, ReportWatermark, TaskMetrics};
use thalweg_proto::graph::v1::JobGraph;
use thalweg_proto::state::v1::TaskSnapshot;
use thalweg_types::config::{Configuration, options};
use thalweg_types::{ExecutionId, Failure, FailureClass, TaskManagerId, VertexId};

use crate::config::Settings;
use crate::dispatcher::Submission;
use crate::resource_manager::SlotId;
use crate::storage_work::{StorageOutcome, StorageWork};
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
}

/// A job waits for its slots as long as it takes, unless somebody asked for a limit: TaskManagers come when they come.
fn patient(mut job_graph: JobGraph) -> JobGraph {
    let limit = job_graph
        .configuration
        .entry(options::SLOT_REQUEST_TIMEOUT.key.to_owned());
    limit.or_insert_with(|| WAIT_FOR_EVER.to_owned());
    job_graph
}
