//! What stays of the checkpoints when the job ends, and how what is under way ends with it.

use thalweg_types::config::CheckpointRetention;
use thalweg_types::{Failure, FailureClass};

use super::pending::all_files;
use super::{Action, Cause, CheckpointCoordinator, CompletedCheckpoint, JobEnd, delete_files, refused};
use crate::metadata::METADATA_FILE;

impl CheckpointCoordinator {
    pub(super) fn job_ended(&mut self, end: JobEnd, actions: &mut Vec<Action>) {
        if self.ended.replace(end).is_some() {
            return;
        }
        self.due_ms = None;
        self.end_operations(end, actions);
        if end == JobEnd::Suspended {
            self.pending.clear();
            return;
        }
        for id in self.pending.keys().copied().collect::<Vec<_>>() {
            self.give_up(id, &Cause::JobEnded, actions);
        }
        if !self.keeps(end) {
            for checkpoint in std::mem::take(&mut self.completed) {
                self.discard(&checkpoint, actions);
            }
        }
        delete_files(self.files.take_all_unused(), actions);
        // Whatever tasks put there after they were deleted.
        for given_up in self.given_up.values() {
            given_up.delete(actions);
        }
        if end == JobEnd::Canceled {
            delete_files(self.pointer.take().into_iter().collect(), actions);
        }
        self.clear_folder(actions);
    }

    /// The same for a job that ended under an earlier JobManager, which may have been lost before it had deleted all; behind the savepoint
    /// with this number, if that stopped it. Of checkpoints that are kept nothing is known here: they are left alone.
    pub fn ended_before(&mut self, end: JobEnd, stopped_with: Option<u64>) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.ended.replace(end).is_none() && !self.keeps(end) {
            let stopped_with = stopped_with.filter(|_| end == JobEnd::Finished);
            self.pointer = stopped_with.and_then(|id| self.pointer_of(id));
            self.clear_folder(&mut actions);
        }
        actions
    }

    /// Whether checkpoints stay behind such an end.
    fn keeps(&self, end: JobEnd) -> bool {
        match (end, self.config.retention) {
            (JobEnd::Finished, _) | (_, CheckpointRetention::None) => false,
            (JobEnd::Canceled, CheckpointRetention::DeleteOnCancellation) => false,
            (JobEnd::Failed | JobEnd::Canceled | JobEnd::Suspended, _) => true,
        }
    }

    /// What tasks wrote and nobody heard of: uploads of checkpoints that were given up, merged runs that came too late. What says
    /// that a savepoint stopped the job stays: a JobManager that is started again must not begin anew.
    fn clear_folder(&self, actions: &mut Vec<Action>) {
        let Some(folder) = self.folder.as_ref().filter(|_| self.folder_is_ours) else {
            return;
        };
        if self.completed.is_empty() && self.pointer.is_none() {
            actions.push(Action::DeleteFolder(folder.clone()));
            return;
        }
        let files_of = |checkpoint: &CompletedCheckpoint| {
            let mut files = all_files(&checkpoint.metadata, &checkpoint.base);
            files.push(format!("{}/{METADATA_FILE}", checkpoint.folder));
            files
        };
        let mut keep: Vec<String> = self.completed.iter().flat_map(files_of).collect();
        keep.extend(self.pointer.clone());
        keep.sort_unstable();
        keep.dedup();
        actions.push(Action::Sweep {
            folder: folder.clone(),
            keep,
        });
    }

    fn end_operations(&mut self, end: JobEnd, actions: &mut Vec<Action>) {
        if let Some((operation_id, checkpoint_id, folder)) = self.stopping.take() {
            let result = match end {
                JobEnd::Finished => Ok(folder),
                _ => Err(Failure::new(
                    FailureClass::Retryable,
                    format!(
                        "the savepoint {folder} is complete, but the job ended before it had stopped as asked"
                    ),
                )),
            };
            actions.push(Action::OperationEnded {
                operation_id,
                checkpoint_id,
                result,
            });
        }
        if end == JobEnd::Suspended {
            let pending = self.pending.values_mut();
            let begun = pending.filter_map(|pending| Some((pending.id, pending.request.take()?)));
            for (checkpoint_id, request) in begun.collect::<Vec<_>>() {
                let message = "the JobManager gave the job up before the snapshot was complete";
                actions.push(Action::OperationEnded {
                    operation_id: request.operation_id,
                    checkpoint_id,
                    result: Err(Failure::new(FailureClass::Retryable, message)),
                });
            }
        }
        self.refuse_waiting("the job has ended", actions);
    }

    pub(super) fn refuse_waiting(&mut self, reason: &str, actions: &mut Vec<Action>) {
        for (request, _) in std::mem::take(&mut self.waiting) {
            actions.push(refused(request.operation_id, reason.to_owned()));
        }
    }
}
