//! How a snapshot comes to nothing, and what that costs. Flink's CheckpointFailureManager.

use thalweg_proto::control::v1::CheckpointFailureReason;
use thalweg_types::{Failure, FailureClass};

use super::pending::{Pending, Phase};
use super::{Action, CheckpointCoordinator, GIVEN_UP_REMEMBERED, delete_files};

/// Why a snapshot is given up.
#[derive(Debug)]
pub(super) enum Cause {
    Declined {
        task: String,
        reason: CheckpointFailureReason,
        failure: Failure,
    },
    TimedOut,
    Metadata(Failure),
    TasksStopped(Failure),
    /// Not its fault: what was asked for is tried again.
    TaskFinished {
        task: String,
    },
    /// Not its fault either.
    Subsumed {
        by: u64,
    },
    JobEnded,
}

/// What is left of it.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) folder: String,
    /// The file that would name it.
    pub(super) pointer: Option<String>,
}

impl GivenUp {
    /// Whatever is there of it by now goes; the pointer first, so that it leads somewhere as long as it is there.
    pub(super) fn delete(&self, actions: &mut Vec<Action>) {
        delete_files(self.pointer.iter().cloned().collect(), actions);
        actions.push(Action::DeleteFolder(self.folder.clone()));
    }
}

impl CheckpointCoordinator {
    pub(super) fn give_up(&mut self, id: u64, cause: &Cause, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        let what = if pending.is_savepoint() {
            "savepoint"
        } else {
            "checkpoint"
        };
        let (failure, counts) = self.failure_of(&pending, what, cause);
        self.stats.failed(id, &failure.message, self.now_ms);
        self.pause_until_ms = self.now_ms.saturating_add(self.config.min_pause_ms);
        if !matches!(cause, Cause::JobEnded) {
            self.notify(id, &pending.participants, false, actions);
        }
        let given_up = GivenUp {
            folder: pending.folder.clone(),
            pointer: self.pointer_of(id).filter(|_| pending.stops_job()),
        };
        given_up.delete(actions);
        self.given_up.insert(id, given_up);
        if self.given_up.len() > GIVEN_UP_REMEMBERED {
            self.given_up.pop_first();
        }
        if !pending.is_savepoint() {
            delete_files(self.files.release(id), actions);
        }
        let drains = pending.drains_job();
        if let Some(request) = pending.request {
            let again = matches!(cause, Cause::TaskFinished { .. } | Cause::Subsumed { .. });
            if again && self.ended.is_none() {
                let until = self.now_ms.saturating_add(self.config.timeout_ms);
                self.waiting.push_front((request.again(), until));
            } else {
                actions.push(Action::OperationEnded {
                    operation_id: request.operation_id,
                    checkpoint_id: id,
                    result: Err(failure.clone()),
                });
            }
        }
        // Tasks paused behind the barrier and go on as soon as they hear of it. Flink fails them all (StreamTask, "Stop-with-savepoint
        // failed"); that is needed only where the last watermark was sent.
        if drains && !matches!(cause, Cause::JobEnded) {
            let message =
                format!("event time has come to its end for a savepoint to stop with that failed: {failure}");
            self.fail_job_unless_all_stopped(message, actions);
        }
        if counts {
            self.count_failure(&failure, actions);
        }
    }

    /// What is told, and whether it counts for `tolerable-failed-checkpoints`. Flink's CheckpointFailureManager.
    fn failure_of(&self, pending: &Pending, what: &str, cause: &Cause) -> (Failure, bool) {
        let id = pending.id;
        let retryable = |message: String| Failure::new(FailureClass::Retryable, message);
        let counts = !pending.is_savepoint();
        match cause {
            Cause::Declined {
                task,
                reason,
                failure,
            } => {
                let mut told = failure.clone();
                told.message = format!("{what} {id} failed in task {task}: {}", failure.message);
                (told, counts && is_counted(*reason))
            }
            Cause::TimedOut => {
                let missing: Vec<String> = pending
                    .waiting
                    .iter()
                    .take(3)
                    .map(|task| self.tasks.name(*task))
                    .collect();
                let seconds = self.config.timeout_ms as f64 / 1000.0;
                let lack = match (pending.phase, pending.waiting.len() - missing.len()) {
                    (Phase::Metadata, _) => {
                        format!("its metadata could not be written to {}", pending.folder)
                    }
                    (_, 0) => format!("no answer of {}", missing.join(", ")),
                    (_, more) => format!("no answer of {} and {more} others", missing.join(", ")),
                };
                let told = format!(
                    "{what} {id} was not complete after {seconds} s (execution.checkpointing.timeout): {lack}"
                );
                (retryable(told), counts)
            }
            Cause::Metadata(failure) => {
                let mut told = failure.clone();
                told.message = format!("{what} {id}: its metadata can't be written: {}", failure.message);
                (told, counts)
            }
            Cause::TasksStopped(failure) => (
                retryable(format!(
                    "{what} {id} was given up, the job's tasks failed: {failure}"
                )),
                false,
            ),
            Cause::TaskFinished { task } => (
                retryable(format!(
                    "{what} {id} was given up, task {task} finished before it had its barrier"
                )),
                false,
            ),
            Cause::Subsumed { by } => (
                retryable(format!(
                    "{what} {id} was given up, the newer checkpoint {by} completed before it"
                )),
                false,
            ),
            Cause::JobEnded => (
                retryable(format!("{what} {id} was given up, the job has ended")),
                false,
            ),
        }
    }

    fn count_failure(&mut self, failure: &Failure, actions: &mut Vec<Action>) {
        self.failures_in_a_row += 1;
        if self.failures_in_a_row <= self.config.tolerable_failures {
            return;
        }
        let message = format!(
            "{} checkpoint(s) in a row failed, execution.checkpointing.tolerable-failed-checkpoints allows {}: {failure}",
            self.failures_in_a_row, self.config.tolerable_failures
        );
        self.failures_in_a_row = 0;
        actions.push(Action::FailJob(Failure {
            class: FailureClass::Retryable,
            message,
            detail: failure.detail.clone(),
        }));
    }
}

/// Whether it counts for `tolerable-failed-checkpoints`: only what restarting might mend. Flink's CheckpointFailureManager.
fn is_counted(reason: CheckpointFailureReason) -> bool {
    match reason {
        CheckpointFailureReason::Unspecified
        | CheckpointFailureReason::Declined
        | CheckpointFailureReason::AsyncException => true,
        CheckpointFailureReason::TaskNotReady
        | CheckpointFailureReason::Subsumed
        | CheckpointFailureReason::TooManyRequests => false,
    }
}
