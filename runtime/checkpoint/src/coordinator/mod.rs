//! When snapshots are taken, of whom, and what becomes of them: a state machine. Flink's CheckpointCoordinator.
//!
//! ```text
//!   Tick, Trigger --due--> Trigger to tasks --Acknowledge of all--> WriteMetadata --written--> completed --> Notify
//!                             | Decline, time-out, task stopped        | failed                   | oldest of too many
//!                             v                                        v                          v
//!                           given up: Notify, its folder is deleted                      DeleteFolder, DeleteFiles
//! ```
//!
//! Invariants: numbers only grow; a snapshot completes once, after its metadata is there and only if every task of it still
//! runs the attempt that it began with; an operation ends exactly once; a file is deleted only when no retained or pending
//! checkpoint and no task's chain of runs uses it ([`crate::SharedFiles`]); savepoints that completed are never deleted; behind a
//! savepoint that stopped the job nothing older is restored, by whomever ([`POINTER_FILE`]).
//!
//! `now_ms` is of a clock that never goes back (the wall clock at the start, plus the time that passed since); should it
//! go back after all, it stands still until it is there again.

mod ending;
mod giving_up;
mod leftovers;
mod pending;
mod protocol;
mod takeover;
mod tasks;
mod triggering;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, DeclineCheckpoint, ExecutionAttempt, NotifyCheckpoint,
};
use thalweg_proto::state::v1::{CheckpointMetrics, TaskSnapshot};
use thalweg_types::{Failure, FailureClass};

use crate::config::CheckpointConfig;
use crate::shared_files::SharedFiles;
use crate::stats::{CheckpointStats, RestoreRecord, SubtaskRecord};
use giving_up::{Cause, GivenUp};
pub use leftovers::leftovers;
use pending::{Pending, Phase, all_run_files, run_files};
pub use protocol::{
    Action, CompletedCheckpoint, CoordinatorSetup, Event, JobEnd, POINTER_FILE, RestoredFrom,
    SnapshotRequest, SnapshotTarget, Takeover,
};
use tasks::{TaskStatus, Tasks};

/// Snapshots that were given up and whose tasks may still answer: so many are remembered.
const GIVEN_UP_REMEMBERED: usize = 256;
/// Operations whose ids are remembered.
const OPERATIONS_REMEMBERED: usize = 1024;
/// Operations that may wait.
const OPERATIONS_WAITING: usize = 16;

/// The state machine; see the module.
#[derive(Debug)]
pub struct CheckpointCoordinator {
    config: CheckpointConfig,
    folder: Option<String>,
    folder_is_ours: bool,
    recoverable: bool,
    tasks: Tasks,
    now_ms: u64,
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
    /// Requests that did not begin yet, and until when they wait.
    waiting: VecDeque<(SnapshotRequest, u64)>,
    /// All that ever came, the newest.
    operations: VecDeque<String>,
    /// Oldest first; the retained ones, all of them owned.
    completed: VecDeque<CompletedCheckpoint>,
    /// A NO_CLAIM snapshot, or the savepoint that was to stop the job: restored from as long as nothing newer completed.
    foreign: Option<CompletedCheckpoint>,
    /// The savepoint to stop with is complete, the tasks are ending: operation, checkpoint, folder.
    stopping: Option<(String, u64, String)>,
    /// The file that names `foreign`, if that is a savepoint that was to stop the job.
    pointer: Option<String>,
    /// Snapshots that were given up: a task or a write may still put something there.
    given_up: BTreeMap<u64, GivenUp>,
    files: SharedFiles,
    stats: CheckpointStats,
    /// The next periodic one is due; None while not all tasks run.
    due_ms: Option<u64>,
    /// Of [`CoordinatorSetup::delay_seed`], moved on with each delay that was drawn.
    delay_seed: Option<u64>,
    /// None begins before this.
    pause_until_ms: u64,
    failures_in_a_row: u32,
    /// Files of an earlier JobManager that nobody accounts for, as far as is known, and how many checkpoints completed since.
    leftovers: Vec<String>,
    completed_here: u8,
    ended: Option<JobEnd>,
}

impl CheckpointCoordinator {
    /// For a job whose tasks don't run yet.
    pub fn new(setup: CoordinatorSetup) -> Self {
        let mut coordinator = Self {
            config: setup.config,
            folder: setup.folder.map(|folder| folder.trim_end_matches('/').to_owned()),
            folder_is_ours: setup.folder_is_ours,
            recoverable: setup.recoverable,
            tasks: Tasks::new(setup.graph),
            now_ms: 0,
            next_id: setup.first_checkpoint_id.max(1),
            pending: BTreeMap::new(),
            waiting: VecDeque::new(),
            operations: VecDeque::new(),
            completed: VecDeque::new(),
            foreign: None,
            stopping: None,
            pointer: None,
            given_up: BTreeMap::new(),
            files: SharedFiles::default(),
            stats: CheckpointStats::new(setup.history_size),
            due_ms: None,
            delay_seed: setup.delay_seed,
            pause_until_ms: 0,
            failures_in_a_row: 0,
            leftovers: Vec::new(),
            completed_here: 0,
            ended: None,
        };
        for restored in setup.restored {
            coordinator.adopt(restored);
        }
        coordinator.note_leftovers(&setup.earlier_files);
        coordinator
    }

    fn adopt(&mut self, restored: RestoredFrom) {
        let id = restored.metadata.checkpoint_id;
        self.next_id = self.next_id.max(id + 1);
        let checkpoint = CompletedCheckpoint {
            id,
            folder: restored.folder,
            base: restored.base,
            metadata: restored.metadata,
            owned: restored.owned,
        };
        if !checkpoint.owned {
            let of_this_job = checkpoint.metadata.job_id == self.tasks.graph().job_id;
            if checkpoint.metadata.savepoint && of_this_job {
                self.pointer = self.pointer_of(id);
            }
            self.foreign = Some(checkpoint);
            return;
        }
        // A savepoint's files go with its folder.
        if !checkpoint.metadata.savepoint {
            self.files
                .mention(id, all_run_files(&checkpoint.metadata, &checkpoint.base));
        }
        self.completed.push_back(checkpoint);
    }

    /// What a restart begins with: the newest of what completed, else what the job started from.
    pub fn restore_point(&self) -> Option<&CompletedCheckpoint> {
        self.completed
            .iter()
            .chain(&self.foreign)
            .max_by_key(|checkpoint| checkpoint.id)
    }

    /// Whether a checkpoint is being made known to other JobManagers, one of which may go on from it whatever is decided here. Until
    /// its answer is there, nothing may be started from an older one: what its tasks prepared would be lost.
    pub fn is_completing(&self) -> bool {
        self.pending.values().any(|pending| self.may_be_known(pending))
    }

    fn may_be_known(&self, pending: &Pending) -> bool {
        self.recoverable && pending.phase == Phase::Metadata && !pending.is_savepoint()
    }

    /// The operation that asked for a snapshot that is under way.
    pub fn operation_of(&self, checkpoint_id: u64) -> Option<&str> {
        let request = self.pending.get(&checkpoint_id)?.request.as_ref()?;
        Some(&request.operation_id)
    }

    /// Whether the savepoint to stop with is complete, and the job about to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The newest completed checkpoint that is the job's own.
    pub fn latest_completed(&self) -> Option<&CompletedCheckpoint> {
        self.completed.back()
    }

    /// The retained ones, oldest first.
    pub fn retained(&self) -> impl Iterator<Item = &CompletedCheckpoint> {
        self.completed.iter()
    }

    /// For people.
    pub fn stats(&self) -> &CheckpointStats {
        &self.stats
    }

    /// As it was made with.
    pub fn config(&self) -> &CheckpointConfig {
        &self.config
    }

    /// Takes an event in; what is to be done about it.
    pub fn handle(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        self.now_ms = self.now_ms.max(now_ms);
        let mut actions = Vec::new();
        match event {
            Event::TaskRunning(execution) => self.tasks.running(&execution),
            Event::TaskFinished {
                execution,
                final_snapshot,
            } => self.task_finished(&execution, &final_snapshot, &mut actions),
            Event::TasksStopped { executions, failure } => {
                self.tasks_stopped(&executions, &failure, &mut actions);
            }
            Event::Restored => self.note_restore(),
            Event::TookOver(takeover) => self.take_over(&takeover, &mut actions),
            Event::Tick => {}
            Event::Trigger(request) => self.request(request, &mut actions),
            Event::Acknowledge(message) => self.acknowledge(message, &mut actions),
            Event::Decline(message) => self.decline(&message, &mut actions),
            Event::MetadataWritten {
                checkpoint_id,
                result,
            } => self.metadata_written(checkpoint_id, result, &mut actions),
            Event::JobEnded(end) => self.job_ended(end, &mut actions),
        }
        self.time_out(&mut actions);
        self.schedule();
        self.begin_due(&mut actions);
        actions
    }

    fn note_restore(&mut self) {
        let Some(point) = self.restore_point() else { return };
        let record = RestoreRecord {
            id: point.id,
            restored_ms: self.now_ms,
            savepoint: point.metadata.savepoint,
            external_path: point.folder.clone(),
        };
        self.stats.restored(record);
    }

    fn task_finished(
        &mut self,
        execution: &ExecutionAttempt,
        last: &TaskSnapshot,
        actions: &mut Vec<Action>,
    ) {
        let Some(task) = self.tasks.finished(execution, last.clone()) else {
            return;
        };
        let lacking = |pending: &&Pending| pending.waiting.contains(&task);
        let affected: Vec<(u64, bool)> = self
            .pending
            .values()
            .filter(lacking)
            .map(|pending| (pending.id, pending.stops_job()))
            .collect();
        for (id, stops) in affected {
            if stops {
                self.accept_end(id, task, last, actions);
            } else {
                let task = self.tasks.name(task);
                self.give_up(id, &Cause::TaskFinished { task }, actions);
            }
        }
        if self.tasks.all_finished().count() == self.tasks.count()
            && let Some((operation_id, checkpoint_id, folder)) = self.stopping.take()
        {
            actions.push(Action::OperationEnded {
                operation_id,
                checkpoint_id,
                result: Ok(folder),
            });
        }
    }

    /// Behind its barrier it would have waited for the savepoint: it came to its end without it, as then all before it did. So
    /// the end is its state, and those behind it take its end for the barrier.
    fn accept_end(&mut self, id: u64, task: usize, last: &TaskSnapshot, actions: &mut Vec<Action>) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.finished.insert(task);
        }
        self.accept(id, task, last.clone(), CheckpointMetrics::default(), actions);
        self.trigger_behind_finished(id, actions);
    }

    fn tasks_stopped(
        &mut self,
        executions: &[ExecutionAttempt],
        failure: &Failure,
        actions: &mut Vec<Action>,
    ) {
        let mut known = false;
        for execution in executions {
            known |= self.tasks.stopped(execution);
        }
        if !known {
            return;
        }
        self.due_ms = None;
        let undecided = |pending: &&Pending| !self.may_be_known(pending);
        let given_up = self.pending.values().filter(undecided);
        for id in given_up.map(|pending| pending.id).collect::<Vec<_>>() {
            self.give_up(id, &Cause::TasksStopped(failure.clone()), actions);
        }
        if let Some((operation_id, checkpoint_id, folder)) = self.stopping.take() {
            let message = format!(
                "the savepoint {folder} is complete, but the job failed before it had stopped and goes on from there: {failure}"
            );
            actions.push(Action::OperationEnded {
                operation_id,
                checkpoint_id,
                result: Err(Failure::new(FailureClass::Retryable, message.clone())),
            });
            self.fail_job_unless_all_stopped(message, actions);
        }
    }

    /// Sources that ended behind the barrier have to run again, whichever tasks failed.
    fn fail_job_unless_all_stopped(&self, message: String, actions: &mut Vec<Action>) {
        if self.tasks.all_running().next().is_some() || self.tasks.any_finished() {
            actions.push(Action::FailJob(Failure::new(FailureClass::Retryable, message)));
        }
    }

    fn acknowledge(&mut self, message: AcknowledgeCheckpoint, actions: &mut Vec<Action>) {
        let id = message.checkpoint_id;
        let snapshot = message.snapshot.unwrap_or_default();
        let Some((task, attempt)) = message
            .execution
            .as_ref()
            .and_then(|execution| Some((self.tasks.place(execution)?, execution.attempt)))
        else {
            return;
        };
        match self.pending.get(&id) {
            Some(pending) if pending.participants.get(&task) == Some(&attempt) => {
                if pending.waiting.contains(&task) {
                    self.accept(id, task, snapshot, message.metrics.unwrap_or_default(), actions);
                }
            }
            Some(pending) => {
                // Of an attempt that is over: its exclusive files go with the folder.
                if !pending.is_savepoint() {
                    let files = run_files(&snapshot, &pending.base);
                    delete_files(self.files.mention_late(id, files), actions);
                }
            }
            None => self.acknowledged_late(id, &snapshot, actions),
        }
    }

    /// The snapshot was given up: what was written for it isn't needed, unless the task's later checkpoints use it.
    fn acknowledged_late(&mut self, id: u64, snapshot: &TaskSnapshot, actions: &mut Vec<Action>) {
        let Some(given_up) = self.given_up.get(&id) else {
            return;
        };
        given_up.delete(actions);
        let folder = &given_up.folder;
        let own = self
            .folder
            .clone()
            .filter(|own| *folder == checkpoint_folder(own, id));
        if let Some(base) = own {
            delete_files(self.files.mention_late(id, run_files(snapshot, &base)), actions);
        }
    }

    fn accept(
        &mut self,
        id: u64,
        task: usize,
        snapshot: TaskSnapshot,
        metrics: CheckpointMetrics,
        actions: &mut Vec<Action>,
    ) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        pending.waiting.remove(&task);
        if !pending.is_savepoint() {
            self.files.mention(id, run_files(&snapshot, &pending.base));
        }
        pending.states.insert(task, snapshot);
        let (vertex, subtask) = self.tasks.position(task);
        let record = SubtaskRecord {
            subtask,
            acknowledged_ms: self.now_ms,
            metrics,
        };
        self.stats.acknowledged(id, vertex, record);
        if pending.waiting.is_empty() {
            let metadata = Arc::new(pending.to_metadata(&self.tasks, self.now_ms));
            pending.phase = Phase::Metadata;
            pending.metadata = Some(metadata.clone());
            pending.states.clear();
            let (folder, stops) = (pending.folder.clone(), pending.stops_job());
            actions.push(Action::WriteMetadata {
                checkpoint_id: id,
                folder,
                pointer: self.pointer_of(id).filter(|_| stops),
                metadata,
            });
        }
    }

    fn decline(&mut self, message: &DeclineCheckpoint, actions: &mut Vec<Action>) {
        let id = message.checkpoint_id;
        let execution = message.execution.clone().unwrap_or_default();
        let Some(task) = self.tasks.place(&execution) else {
            return;
        };
        let concerned = self.pending.get(&id).is_some_and(|pending| {
            pending.participants.get(&task) == Some(&execution.attempt) && pending.waiting.contains(&task)
        });
        if concerned {
            let failure = message
                .failure
                .as_ref()
                .map(thalweg_graph::execution::failure_from_proto);
            let failure =
                failure.unwrap_or_else(|| Failure::new(FailureClass::Retryable, "it gave no reason"));
            let cause = Cause::Declined {
                task: self.tasks.name(task),
                reason: message.reason(),
                failure,
            };
            self.give_up(id, &cause, actions);
        }
    }

    fn metadata_written(&mut self, id: u64, result: Result<u64, Failure>, actions: &mut Vec<Action>) {
        let writing = |pending: &Pending| pending.phase == Phase::Metadata;
        if !self.pending.get(&id).is_some_and(writing) {
            if let Some(given_up) = self.given_up.get(&id) {
                given_up.delete(actions);
            }
            return;
        }
        match result {
            Ok(bytes) => self.complete(id, bytes, actions),
            Err(failure) => self.give_up(id, &Cause::Metadata(failure), actions),
        }
    }

    fn complete(&mut self, id: u64, metadata_bytes: u64, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        let Some(metadata) = pending.metadata.clone() else {
            return;
        };
        self.stats
            .completed(id, &pending.folder, metadata_bytes, self.now_ms);
        self.pause_until_ms = self.now_ms.saturating_add(self.config.min_pause_ms);
        let (savepoint, stops) = (pending.is_savepoint(), pending.stops_job());
        // Savepoints commit nothing, unless the job ends with them: FLIP-203.
        if !savepoint || stops {
            self.notify(id, &pending.participants, true, actions);
        }
        let checkpoint = CompletedCheckpoint {
            id,
            folder: pending.folder.clone(),
            base: pending.base,
            metadata,
            owned: !savepoint,
        };
        if !savepoint {
            self.failures_in_a_row = 0;
            self.retain(checkpoint, actions);
            self.delete_leftovers(actions);
        } else if stops {
            // Its sinks commit: nothing older may be restored any more.
            self.foreign = Some(checkpoint);
            delete_files(self.pointer.take().into_iter().collect(), actions);
            self.pointer = self.pointer_of(id);
        }
        let Some(request) = pending.request else { return };
        if stops {
            self.stopping = Some((request.operation_id, id, pending.folder));
            self.refuse_waiting("the job is being stopped with a savepoint", actions);
            return;
        }
        actions.push(Action::OperationEnded {
            operation_id: request.operation_id,
            checkpoint_id: id,
            result: Ok(pending.folder),
        });
    }

    /// A checkpoint completed: older ones under way and those that are too many go.
    fn retain(&mut self, checkpoint: CompletedCheckpoint, actions: &mut Vec<Action>) {
        let id = checkpoint.id;
        self.completed.push_back(checkpoint);
        if self.foreign.as_ref().is_some_and(|foreign| foreign.id < id) {
            self.foreign = None;
            delete_files(self.pointer.take().into_iter().collect(), actions);
        }
        let older = self
            .pending
            .values()
            .filter(|pending| pending.id < id && !pending.is_savepoint());
        for older in older.map(|pending| pending.id).collect::<Vec<_>>() {
            self.give_up(older, &Cause::Subsumed { by: id }, actions);
        }
        delete_files(self.files.completed(id), actions);
        while self.completed.len() > self.config.num_retained.max(1) as usize {
            if let Some(oldest) = self.completed.pop_front() {
                self.discard(&oldest, actions);
            }
        }
    }

    fn discard(&mut self, checkpoint: &CompletedCheckpoint, actions: &mut Vec<Action>) {
        self.stats.discarded(checkpoint.id);
        actions.push(Action::DeleteFolder(checkpoint.folder.clone()));
        delete_files(self.files.release(checkpoint.id), actions);
    }

    /// Where the file is that names savepoint `id`, if it stops the job.
    fn pointer_of(&self, id: u64) -> Option<String> {
        let folder = self.folder.as_ref().filter(|_| self.recoverable)?;
        Some(format!("{}/{POINTER_FILE}", checkpoint_folder(folder, id)))
    }

    /// To those participants whose attempt still runs.
    fn notify(
        &self,
        id: u64,
        participants: &BTreeMap<usize, u32>,
        completed: bool,
        actions: &mut Vec<Action>,
    ) {
        let running =
            |(task, attempt): &(&usize, &u32)| *self.tasks.status(**task) == TaskStatus::Running(**attempt);
        let executions: Vec<ExecutionAttempt> = participants
            .iter()
            .filter(running)
            .map(|(task, attempt)| self.tasks.execution(*task, *attempt))
            .collect();
        if !executions.is_empty() {
            actions.push(Action::Notify(NotifyCheckpoint {
                executions,
                checkpoint_id: id,
                completed,
            }));
        }
    }
}

fn checkpoint_folder(job_folder: &str, id: u64) -> String {
    format!("{job_folder}/chk-{id}")
}

fn delete_files(files: Vec<String>, actions: &mut Vec<Action>) {
    if !files.is_empty() {
        actions.push(Action::DeleteFiles(files));
    }
}

fn refused(operation_id: String, reason: String) -> Action {
    Action::OperationEnded {
        operation_id,
        checkpoint_id: 0,
        result: Err(Failure::new(FailureClass::Retryable, reason)),
    }
}

#[cfg(test)]
mod exactly_once;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
