//! The job's checkpoints: what happens in the job goes to the CheckpointCoordinator as events, its actions come back as commands
//! to tasks, work in storage, and facts for the ExecutionGraph.
//!
//! ```text
//!   tasks' states, acknowledgements, timers, requests --Event--> CheckpointCoordinator (pure, thalweg_checkpoint)
//!                                                                     | Action
//!     TaskManagers <--trigger, notify-- storage <--metadata, delete --+-- fail, cancel --> ExecutionGraph
//! ```
//!
//! Invariants: the coordinator hears of tasks that stopped before any task is deployed again, so that what a deployment restores
//! is the newest checkpoint that any task was told of; an operation that began ends.

mod takeover;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use thalweg_checkpoint::{
    Action, CheckpointConfig, CheckpointCoordinator, CheckpointStats, CoordinatorSetup, Event, JobEnd,
    RestoredFrom, SnapshotTarget, Takeover, assign,
};
use thalweg_graph::execution::{ExecutionGraph, JobStatus, execution_attempt, execution_id};
use thalweg_proto::cluster::v1::{CheckpointStatus, SavepointStatus};
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::{ExecutionAttempt, NotifyCheckpoint, TaskDeployment, TriggerCheckpoint};
use thalweg_proto::graph::v1::JobGraph;
use thalweg_proto::state::v1::{TaskRestore, TaskSnapshot};
use thalweg_storage::FileSystems;
use thalweg_types::config::{ClaimMode, options};
use thalweg_types::{Classify, ExecutionId, Failure, FailureClass, JobId, TaskManagerId};

use super::operations::{Made, Operation, OperationKind, Operations};
use super::{JobAction, JobTimer};
use crate::dispatcher::{RestoredState, Submission};
use crate::snapshot::StoredSnapshot;
use crate::storage_work::{StorageOutcome, StorageRequest, StorageWork};

/// Operations of one job under way at one time.
const MAX_OPERATIONS: usize = 32;

/// A snapshot that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotRequest {
    /// The same id is the same operation.
    pub(crate) operation_id: String,
    pub(crate) kind: OperationKind,
    /// Folder for a savepoint; `None` = `execution.checkpointing.savepoint-dir`.
    pub(crate) target: Option<String>,
    /// With [`OperationKind::Stop`]: event time runs to its end first.
    pub(crate) drain: bool,
    /// A checkpoint that refers to no file of an earlier one.
    pub(crate) full: bool,
}

/// What an action of the coordinator leads to.
pub(super) enum Consequence {
    /// To be done outside.
    Do(JobAction),
    /// The job fails; its restart strategy is asked.
    Fail(Failure),
    /// The job is canceled: the savepoint that was to come before is complete.
    Cancel,
}

/// An attempt as the coordinator knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    attempt: u32,
    finished: bool,
}

/// What each task restores of a snapshot, by vertex and subtask.
struct Restores {
    checkpoint_id: u64,
    tasks: BTreeMap<(String, u32), TaskRestore>,
}

/// Everything about one job's checkpoints.
pub(crate) struct Checkpoints {
    coordinator: CheckpointCoordinator,
    operations: Operations,
    /// The stop that an earlier leader did not see the end of.
    inherited_stop: Option<String>,
    file_systems: FileSystems,
    /// What the coordinator was told of each task, in the order of the graph's; `None` = it does not count.
    known: Vec<Option<Known>>,
    /// What tasks left behind whose end is being dealt with.
    finishing: HashMap<ExecutionId, TaskSnapshot>,
    /// What TaskManagers reported to a new leader, until all is known.
    takeover: Option<Takeover>,
    ended: bool,
    /// When the next tick comes.
    armed_ms: Option<u64>,
    /// Made once for all deployments of one fact.
    restores: Option<Restores>,
}

impl Checkpoints {
    pub(super) fn new(submission: &mut Submission) -> Result<Self, Failure> {
        let configuration = &submission.configuration;
        let mut config =
            CheckpointConfig::from_configuration(configuration).map_err(|error| failed(&error))?;
        config.interval_ms = config.interval_ms.filter(|interval| *interval > 0);
        let open = |key: &str, directory: &str| {
            let opened = submission.file_systems.open_folder(directory);
            opened.map_err(|error| {
                let failure = failed(&error);
                Failure {
                    message: format!("{key}: {}", failure.message),
                    ..failure
                }
            })
        };
        if let Some(directory) = &config.savepoint_directory {
            let folder = open(options::CHECKPOINTING_SAVEPOINT_DIR.key, directory)?;
            config.savepoint_directory = Some(folder.uri());
        }
        let folder = match &config.directory {
            None => None,
            Some(directory) => {
                Some(open(options::CHECKPOINTING_DIR.key, directory)?.uri_of(&submission.job_id.to_string()))
            }
        };
        let operations = Operations::from(std::mem::take(&mut submission.operations));
        let history_size = configuration.get(&options::WEB_CHECKPOINTS_HISTORY);
        let setup = CoordinatorSetup {
            graph: submission.job_graph.clone(),
            config,
            folder,
            folder_is_ours: submission.recoverable || submission.earlier_checkpoint.is_none(),
            recoverable: submission.recoverable,
            first_checkpoint_id: submission.earlier_checkpoint.map_or(1, |newest| newest + 1),
            restored: submission.restored.take().map_or_else(Vec::new, restored_from),
            earlier_files: std::mem::take(&mut submission.earlier_files),
            history_size: history_size.map_err(|error| failed(&error))? as usize,
            delay_seed: Some(delay_seed(submission.job_id)),
        };
        Ok(Self {
            coordinator: CheckpointCoordinator::new(setup),
            inherited_stop: operations.inherited_stop().map(str::to_owned),
            operations,
            file_systems: submission.file_systems.clone(),
            known: Vec::new(),
            finishing: HashMap::new(),
            takeover: None,
            ended: false,
            armed_ms: None,
            restores: None,
        })
    }

    /// Of a job that is over.
    pub(super) fn of_ended(submission: &mut Submission) -> Result<Self, Failure> {
        Ok(Self {
            ended: true,
            ..Self::new(submission)?
        })
    }

    /// What the leader that the job ended under may not have come to.
    pub(super) fn ended_before(&mut self, status: JobStatus, stopped_with: Option<u64>) -> Vec<JobAction> {
        let actions = self.coordinator.ended_before(job_end(status), stopped_with);
        let of_storage = |action| match action {
            Action::DeleteFolder(folder) => Some(StorageRequest::DeleteFolder(folder)),
            Action::Sweep { folder, keep } => Some(StorageRequest::Sweep { folder, keep }),
            _ => None,
        };
        let requests = actions.into_iter().filter_map(of_storage);
        requests.map(|request| self.work(request)).collect()
    }

    // ---- what happens in the job ----

    /// What a task left behind whose end the graph is about to hear of.
    pub(super) fn note_final_snapshot(&mut self, execution: ExecutionId, snapshot: Option<TaskSnapshot>) {
        self.finishing.insert(execution, snapshot.unwrap_or_default());
    }

    /// Looks at the graph after a fact: which tasks stopped, run, have finished.
    pub(super) fn observe(&mut self, graph: &ExecutionGraph, now_ms: u64) -> Vec<Consequence> {
        if graph.status() == JobStatus::Reconciling {
            return Vec::new();
        }
        // One that leads no longer takes nothing over.
        let is_leader = graph.status() != JobStatus::Suspended;
        let mut takeover = self.takeover.take().filter(|_| is_leader);
        let mut stopped = Vec::new();
        let mut news = Vec::new();
        let mut now_known = Vec::with_capacity(self.known.len());
        for (index, (id, finished)) in graph.attempts_that_count().enumerate() {
            let before = self.known.get(index).copied().flatten();
            let now = finished.map(|finished| Known {
                attempt: id.attempt,
                finished,
            });
            now_known.push(now);
            if before == now {
                continue;
            }
            if let Some(before) = before
                && now.is_none_or(|now| now.attempt != before.attempt)
            {
                let attempt = before.attempt;
                stopped.push(execution_attempt(ExecutionId { attempt, ..id }));
            }
            let execution = execution_attempt(id);
            match (now, &mut takeover) {
                (Some(Known { finished: true, .. }), takeover) => {
                    let final_snapshot = self.finishing.remove(&id).unwrap_or_default();
                    match takeover {
                        Some(takeover) => takeover.finished.push((execution, final_snapshot)),
                        None => news.push(Event::TaskFinished {
                            execution,
                            final_snapshot,
                        }),
                    }
                }
                (Some(_), Some(takeover)) => takeover.running.push(execution),
                (Some(_), None) => news.push(Event::TaskRunning(execution)),
                (None, _) => {}
            }
        }
        self.known = now_known;
        self.finishing.clear();
        let took_over = takeover.is_some();
        let mut events: Vec<Event> = takeover.map(Event::TookOver).into_iter().collect();
        if !stopped.is_empty() {
            events.push(Event::TasksStopped {
                executions: stopped,
                failure: why_stopped(graph),
            });
        }
        events.extend(news);
        if graph.status().is_terminal() && !self.ended {
            self.ended = true;
            events.push(Event::JobEnded(job_end(graph.status())));
        }
        let mut consequences = Vec::new();
        for event in events {
            consequences.extend(self.handle(event, graph, now_ms));
        }
        if took_over {
            consequences.extend(self.end_inherited_stop(now_ms));
        }
        consequences
    }

    /// A stop that an earlier leader had begun, and that the job does not end with.
    fn end_inherited_stop(&mut self, now_ms: u64) -> Vec<Consequence> {
        if self.coordinator.is_stopping() {
            return Vec::new();
        }
        let Some(id) = self.inherited_stop.take() else {
            return Vec::new();
        };
        let savepoint = self.coordinator.restore_point();
        let (number, folder) = savepoint.map_or((0, String::new()), |point| (point.id, point.folder.clone()));
        let message = format!(
            "the savepoint {folder} is complete, but the JobManager was lost before the job had stopped as asked: it goes on from there"
        );
        let failure = Failure::new(FailureClass::Retryable, message);
        self.operation_ended(&id, number, Err(failure), now_ms)
    }

    /// Gives deployments what they restore. An error is a bug: whether the snapshot fits was found out when the job came.
    pub(super) fn fill_restores(
        &mut self,
        tasks: &mut [TaskDeployment],
        job_graph: &JobGraph,
    ) -> Result<(), Failure> {
        let Some(point) = self.coordinator.restore_point() else {
            return Ok(());
        };
        let checkpoint_id = point.id;
        let made = self
            .restores
            .take_if(|restores| restores.checkpoint_id == checkpoint_id);
        let restores = match made {
            Some(restores) => restores,
            None => Restores {
                checkpoint_id,
                tasks: assign(point.source(), job_graph, true)
                    .map_err(|error| failed(&error))?
                    .tasks,
            },
        };
        for task in tasks {
            let Some(execution) = &task.execution else {
                continue;
            };
            let of = (execution.vertex_id.clone(), execution.subtask);
            task.restore = restores.tasks.get(&of).cloned();
        }
        self.restores = Some(restores);
        Ok(())
    }

    /// Whether it is not known yet from which checkpoint tasks have to start.
    pub(super) fn is_completing(&self) -> bool {
        self.coordinator.is_completing()
    }

    /// Tasks were deployed with what they restore.
    pub(super) fn note_restored(&mut self, graph: &ExecutionGraph, now_ms: u64) -> Vec<Consequence> {
        self.restores = None;
        if self.coordinator.restore_point().is_none() {
            return Vec::new();
        }
        self.handle(Event::Restored, graph, now_ms)
    }

    // ---- what is asked for ----

    /// Begins a snapshot, or says why it can't begin. The same operation again changes nothing.
    pub(super) fn trigger(
        &mut self,
        graph: &ExecutionGraph,
        request: SnapshotRequest,
        now_ms: u64,
    ) -> Result<Vec<Consequence>, Failure> {
        if self.operations.get(&request.operation_id).is_some() {
            return Ok(Vec::new());
        }
        let target = self.target_of(&request, graph.status())?;
        self.operations
            .begin(request.operation_id.clone(), request.kind, now_ms);
        let request = thalweg_checkpoint::SnapshotRequest {
            operation_id: request.operation_id,
            target,
        };
        Ok(self.handle(Event::Trigger(request), graph, now_ms))
    }

    fn target_of(&self, request: &SnapshotRequest, status: JobStatus) -> Result<SnapshotTarget, Failure> {
        let refused = |message: String| Err(Failure::new(FailureClass::Fatal, message));
        if status.is_terminal() {
            return refused(format!(
                "the job is {status}: no snapshot can be taken of it any more"
            ));
        }
        if self.operations.under_way() >= MAX_OPERATIONS {
            let message =
                format!("{MAX_OPERATIONS} snapshots of the job are asked for already: try again later");
            return Err(Failure::new(FailureClass::Retryable, message));
        }
        let config = self.coordinator.config();
        if request.kind == OperationKind::Checkpoint {
            if config.directory.is_none() {
                return refused(format!(
                    "the job has no folder for checkpoints: set {}",
                    options::CHECKPOINTING_DIR.key
                ));
            }
            return Ok(SnapshotTarget::Checkpoint { full: request.full });
        }
        let Some(directory) = request.target.as_ref().or(config.savepoint_directory.as_ref()) else {
            return refused(format!(
                "there is no folder for the savepoint: name one, or set {}",
                options::CHECKPOINTING_SAVEPOINT_DIR.key
            ));
        };
        let directory = self.file_systems.open_folder(directory);
        Ok(SnapshotTarget::Savepoint {
            directory: Some(directory.map_err(|error| failed(&error))?.uri()),
            stop: request.kind == OperationKind::Stop,
            drain: request.drain,
            random: rand::random(),
        })
    }

    // ---- what comes back ----

    pub(super) fn storage_done(
        &mut self,
        graph: &ExecutionGraph,
        outcome: StorageOutcome,
        now_ms: u64,
    ) -> Vec<Consequence> {
        match outcome {
            StorageOutcome::MetadataWritten {
                checkpoint_id,
                result,
            } => {
                let written = Event::MetadataWritten {
                    checkpoint_id,
                    result,
                };
                self.handle(written, graph, now_ms)
            }
            StorageOutcome::Deleted | StorageOutcome::Confirmed => Vec::new(),
        }
    }

    pub(super) fn tick(&mut self, graph: &ExecutionGraph, now_ms: u64) -> Vec<Consequence> {
        self.armed_ms = None;
        self.handle(Event::Tick, graph, now_ms)
    }

    /// The timer that has to be set, if the one that is comes too late.
    pub(super) fn next_timer(&mut self, now_ms: u64) -> Option<JobAction> {
        let due_ms = self.coordinator.next_deadline().filter(|_| !self.ended)?;
        if self.armed_ms.is_some_and(|armed_ms| armed_ms <= due_ms) {
            return None;
        }
        self.armed_ms = Some(due_ms);
        Some(JobAction::SetTimer(
            due_ms.saturating_sub(now_ms),
            JobTimer::Checkpoints,
        ))
    }

    /// Takes an event to the coordinator; what follows.
    pub(super) fn handle(&mut self, event: Event, graph: &ExecutionGraph, now_ms: u64) -> Vec<Consequence> {
        let actions = self.coordinator.handle(event, now_ms);
        actions
            .into_iter()
            .flat_map(|action| self.consequences(action, graph, now_ms))
            .collect()
    }

    fn consequences(&mut self, action: Action, graph: &ExecutionGraph, now_ms: u64) -> Vec<Consequence> {
        match action {
            Action::Trigger(trigger) => {
                tracing::debug!(job = %graph.job_id(), checkpoint = trigger.checkpoint_id, "checkpoint triggered");
                let by_place = by_task_manager(graph, trigger.executions);
                let command = |executions| {
                    Command::TriggerCheckpoint(TriggerCheckpoint {
                        executions,
                        options: trigger.options.clone(),
                        ..trigger
                    })
                };
                send(by_place, command)
            }
            Action::Notify(notify) => {
                let by_place = by_task_manager(graph, notify.executions);
                let command =
                    |executions| Command::NotifyCheckpoint(NotifyCheckpoint { executions, ..notify });
                send(by_place, command)
            }
            Action::WriteMetadata {
                checkpoint_id,
                folder,
                pointer,
                metadata,
            } => {
                let asked = self.coordinator.operation_of(checkpoint_id);
                let operation = asked.and_then(|id| self.operations.get(id)).cloned();
                self.storage(StorageRequest::WriteMetadata {
                    checkpoint_id,
                    folder,
                    pointer,
                    metadata,
                    operation: operation.map(Box::new),
                })
            }
            Action::DeleteFiles(files) => self.storage(StorageRequest::DeleteFiles(files)),
            Action::DeleteFolder(folder) => self.storage(StorageRequest::DeleteFolder(folder)),
            Action::Sweep { folder, keep } => self.storage(StorageRequest::Sweep { folder, keep }),
            Action::FailJob(failure) => vec![Consequence::Fail(failure)],
            Action::OperationEnded {
                operation_id,
                checkpoint_id,
                result,
            } => self.operation_ended(&operation_id, checkpoint_id, result, now_ms),
        }
    }

    fn storage(&self, request: StorageRequest) -> Vec<Consequence> {
        vec![Consequence::Do(self.work(request))]
    }

    /// In storage, with the job's own keys.
    pub(super) fn work(&self, request: StorageRequest) -> JobAction {
        let file_systems = self.file_systems.clone();
        JobAction::Storage(Box::new(StorageWork {
            file_systems,
            request,
        }))
    }

    fn operation_ended(
        &mut self,
        operation_id: &str,
        checkpoint_id: u64,
        result: Result<String, Failure>,
        now_ms: u64,
    ) -> Vec<Consequence> {
        match &result {
            Ok(path) => tracing::info!(operation_id, path, "snapshot completed as asked"),
            Err(failure) => {
                tracing::warn!(
                    operation_id,
                    reason = failure.message,
                    "a snapshot that was asked for failed"
                );
            }
        }
        // Who asks under an earlier leader is that one's secret, and the log's.
        let inherited = self.inherited_stop.take_if(|_| operation_id.is_empty());
        let operation_id = inherited.as_deref().unwrap_or(operation_id);
        let result = result.map(|path| Made { path, checkpoint_id });
        let succeeded = result.is_ok();
        let Some(ended) = self.operations.end(operation_id, result, now_ms) else {
            return Vec::new();
        };
        let cancel = ended.kind == OperationKind::SavepointAndCancel && succeeded;
        let ended = Consequence::Do(JobAction::OperationEnded(Box::new(ended)));
        [ended]
            .into_iter()
            .chain(cancel.then_some(Consequence::Cancel))
            .collect()
    }

    /// How the operation ended may be told.
    pub(super) fn show(&mut self, operation_id: &str) {
        self.operations.show(operation_id);
    }

    // ---- what REST, metrics and the operator read ----

    pub(crate) fn stats(&self) -> &CheckpointStats {
        self.coordinator.stats()
    }

    pub(crate) fn config(&self) -> &CheckpointConfig {
        self.coordinator.config()
    }

    pub(super) fn operation(&self, id: &str) -> Option<&Operation> {
        self.operations.get(id)
    }

    pub(super) fn savepoints(&self) -> Vec<SavepointStatus> {
        self.operations.savepoints()
    }

    /// Its newest one is what the job would go on from: also what it started from, until one of its own has completed.
    pub(super) fn status_message(&self) -> CheckpointStatus {
        let stats = self.stats();
        let counts = stats.counts();
        let mut status = CheckpointStatus {
            completed: counts.completed,
            failed: counts.failed,
            in_progress: counts.in_progress,
            last_failure: stats
                .latest_failed()
                .map(|record| record.failure.clone())
                .unwrap_or_default(),
            ..CheckpointStatus::default()
        };
        if let Some(latest) = self.coordinator.restore_point() {
            status.latest_id = latest.id;
            status.latest_path.clone_from(&latest.folder);
            status.latest_completed_ms = latest.metadata.completed_ms;
            status.latest_size = stats
                .record(latest.id)
                .map_or(0, thalweg_checkpoint::CheckpointRecord::state_bytes);
        }
        status
    }
}

/// Jobs that start together don't take their checkpoints together.
fn delay_seed(job: JobId) -> u64 {
    let bytes = job.0.iter();
    bytes.fold(0, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte))
}

fn failed(error: &impl Classify) -> Failure {
    Failure::from_error(error)
}

fn restored_from(restored: RestoredState) -> Vec<RestoredFrom> {
    let from = |snapshot: StoredSnapshot, owned| RestoredFrom {
        base: snapshot.base().to_owned(),
        folder: snapshot.folder,
        metadata: Arc::new(snapshot.metadata),
        owned,
    };
    let earlier = restored.earlier.into_iter().map(|snapshot| from(snapshot, true));
    let newest = from(restored.snapshot, restored.claim_mode == ClaimMode::Claim);
    earlier.chain([newest]).collect()
}

fn job_end(status: JobStatus) -> JobEnd {
    match status {
        JobStatus::Finished => JobEnd::Finished,
        JobStatus::Canceled => JobEnd::Canceled,
        JobStatus::Suspended => JobEnd::Suspended,
        _ => JobEnd::Failed,
    }
}

fn why_stopped(graph: &ExecutionGraph) -> Failure {
    match (graph.status(), graph.last_failure()) {
        (JobStatus::Cancelling | JobStatus::Canceled, _) | (_, None) => {
            Failure::new(FailureClass::Retryable, format!("the job is {}", graph.status()))
        }
        (_, Some(entry)) => entry.failure.clone(),
    }
}

/// Attempts by where they run.
pub(super) fn by_task_manager(
    graph: &ExecutionGraph,
    executions: Vec<ExecutionAttempt>,
) -> BTreeMap<TaskManagerId, Vec<ExecutionAttempt>> {
    let mut by_place: BTreeMap<TaskManagerId, Vec<ExecutionAttempt>> = BTreeMap::new();
    for attempt in executions {
        let execution = execution_id(&attempt).ok().and_then(|id| graph.execution_of(id));
        if let Some(task_manager) = execution.and_then(|execution| execution.task_manager.clone()) {
            by_place.entry(task_manager).or_default().push(attempt);
        }
    }
    by_place
}

fn send(
    by_place: BTreeMap<TaskManagerId, Vec<ExecutionAttempt>>,
    command: impl Fn(Vec<ExecutionAttempt>) -> Command,
) -> Vec<Consequence> {
    let send = |(task_manager, executions)| {
        Consequence::Do(JobAction::Send(task_manager, Box::new(command(executions))))
    };
    by_place.into_iter().map(send).collect()
}
