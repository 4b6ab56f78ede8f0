//! Checkpoints of tasks that an earlier leader started: what the log knows of them, and what their TaskManagers say.

use std::collections::BTreeSet;

use thalweg_checkpoint::Takeover;
use thalweg_proto::control::v1::RunningWorker;
use thalweg_types::{Failure, VertexId};

use super::Checkpoints;
use crate::dispatcher::Submission;

impl Checkpoints {
    /// For a job whose tasks may run already.
    pub(in crate::job_master) fn behind_tasks(submission: &mut Submission) -> Result<Self, Failure> {
        let mut checkpoints = Self::new(submission)?;
        checkpoints.takeover = Some(Takeover::default());
        Ok(checkpoints)
    }

    /// The number of what running tasks go on from; 0 = nothing was completed.
    pub(in crate::job_master) fn newest(&self) -> u64 {
        self.coordinator.restore_point().map_or(0, |point| point.id)
    }

    /// The subtasks that it holds as finished. A vertex's id is that of the operator at its head.
    pub(in crate::job_master) fn finished(&self) -> BTreeSet<(VertexId, u32)> {
        let point = self.coordinator.restore_point();
        let operators = point.iter().flat_map(|point| &point.metadata.operators);
        let finished = operators.flat_map(|operator| {
            let vertex = operator.operator_id.parse().ok();
            let subtasks = operator.finished_subtasks.iter();
            subtasks.filter_map(move |subtask| Some((vertex?, *subtask)))
        });
        finished.collect()
    }

    pub(in crate::job_master) fn note_reported(&mut self, worker: &RunningWorker) {
        let Some(takeover) = &mut self.takeover else {
            return;
        };
        takeover.newest_seen = takeover.newest_seen.max(worker.newest_checkpoint_id);
        if worker.stop_savepoint_id > takeover.stop_savepoint {
            takeover.stop_savepoint = worker.stop_savepoint_id;
            takeover.drains = worker.drains;
        }
    }
}
