//! What a worker's tasks were told and have told, as far as a JobManager that comes later must know it. Pure.
//!
//! Of each subtask the newest attempt is kept, also when it has ended, and of one that has finished what it left behind: so there is
//! one entry for each subtask that ever ran in the worker.

use std::collections::BTreeMap;

use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, RunningTask, RunningWorker, TaskDeployment, TaskState, TaskStateUpdate,
    TriggerCheckpoint,
};

#[derive(Debug)]
struct Known {
    update: TaskStateUpdate,
    task: RunningTask,
}

/// The tasks of one worker.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// By vertex and subtask.
    known: BTreeMap<(String, u32), Known>,
    newest_checkpoint: u64,
    /// The savepoint to stop the job with that came last, and whether event time ends before it; nothing was deployed since.
    stop: Option<(u64, bool)>,
}

impl Tasks {
    pub(super) fn deployed(&mut self, task: &TaskDeployment) {
        let Some(execution) = &task.execution else { return };
        let checkpoint_id = task.restore.as_ref().map_or(0, |restore| restore.checkpoint_id);
        let known = Known {
            update: TaskStateUpdate {
                execution: Some(execution.clone()),
                state: TaskState::Deploying.into(),
                ..TaskStateUpdate::default()
            },
            task: RunningTask {
                slot: task.slot,
                checkpoint_id,
                deployed_ms: task.deployed_ms,
            },
        };
        self.known
            .insert((execution.vertex_id.clone(), execution.subtask), known);
        self.newest_checkpoint = self.newest_checkpoint.max(checkpoint_id);
        self.stop = None;
    }

    pub(super) fn told(&mut self, update: &TaskStateUpdate) {
        if let Some(execution) = &update.execution
            && let Some(known) = self
                .known
                .get_mut(&(execution.vertex_id.clone(), execution.subtask))
                .filter(|known| known.update.execution.as_ref() == Some(execution))
        {
            known.update = update.clone();
        }
    }

    pub(super) fn acknowledged(&mut self, acknowledge: &AcknowledgeCheckpoint) {
        let id = acknowledge.checkpoint_id;
        self.newest_checkpoint = self.newest_checkpoint.max(id);
        if let Some(execution) = &acknowledge.execution
            && let Some(known) = self
                .known
                .get_mut(&(execution.vertex_id.clone(), execution.subtask))
                .filter(|known| known.update.execution.as_ref() == Some(execution))
        {
            known.task.checkpoint_id = known.task.checkpoint_id.max(id);
        }
    }

    pub(super) fn triggered(&mut self, trigger: &TriggerCheckpoint) {
        self.newest_checkpoint = self.newest_checkpoint.max(trigger.checkpoint_id);
        if let Some(options) = trigger.options.as_ref().filter(|options| options.terminate) {
            self.stop = Some((trigger.checkpoint_id, options.drain));
        }
    }

    /// Puts all of it into a report of their worker.
    pub(super) fn describe(&self, worker: &mut RunningWorker) {
        worker.tasks = self.known.values().map(|known| known.update.clone()).collect();
        worker.running = self.known.values().map(|known| known.task).collect();
        worker.newest_checkpoint_id = self.newest_checkpoint;
        (worker.stop_savepoint_id, worker.drains) = self.stop.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_proto::control::v1::ExecutionAttempt;
    use thalweg_proto::state::v1::{CheckpointOptions, TaskRestore, TaskSnapshot};

    fn execution(attempt: u32) -> ExecutionAttempt {
        ExecutionAttempt {
            vertex_id: "v".to_owned(),
            attempt,
            ..ExecutionAttempt::default()
        }
    }

    fn deployment(attempt: u32, checkpoint_id: u64) -> TaskDeployment {
        TaskDeployment {
            execution: Some(execution(attempt)),
            slot: 3,
            deployed_ms: 1_000 * u64::from(attempt),
            restore: Some(TaskRestore {
                checkpoint_id,
                ..TaskRestore::default()
            }),
            ..TaskDeployment::default()
        }
    }

    fn update(attempt: u32, state: TaskState) -> TaskStateUpdate {
        TaskStateUpdate {
            execution: Some(execution(attempt)),
            state: state.into(),
            ..TaskStateUpdate::default()
        }
    }

    fn acknowledge(attempt: u32, checkpoint_id: u64) -> AcknowledgeCheckpoint {
        AcknowledgeCheckpoint {
            execution: Some(execution(attempt)),
            checkpoint_id,
            ..AcknowledgeCheckpoint::default()
        }
    }

    fn stop(checkpoint_id: u64, drain: bool) -> TriggerCheckpoint {
        TriggerCheckpoint {
            checkpoint_id,
            options: Some(CheckpointOptions {
                terminate: true,
                drain,
                ..CheckpointOptions::default()
            }),
            ..TriggerCheckpoint::default()
        }
    }

    fn described(tasks: &Tasks) -> RunningWorker {
        let mut worker = RunningWorker::default();
        tasks.describe(&mut worker);
        worker
    }

    #[test]
    fn of_a_subtask_the_newest_attempt_is_told_with_its_slot_its_state_and_its_newest_checkpoint() {
        let mut tasks = Tasks::default();
        tasks.deployed(&deployment(1, 4));
        tasks.told(&update(1, TaskState::Failed));
        tasks.deployed(&deployment(2, 5));
        tasks.told(&update(1, TaskState::Canceled));
        tasks.told(&update(2, TaskState::Running));
        tasks.acknowledged(&acknowledge(1, 9));
        tasks.acknowledged(&acknowledge(2, 7));
        let worker = described(&tasks);
        assert_eq!(worker.tasks, [update(2, TaskState::Running)]);
        let expected = RunningTask {
            slot: 3,
            checkpoint_id: 7,
            deployed_ms: 2_000,
        };
        assert_eq!(worker.running, [expected]);
        assert_eq!(worker.newest_checkpoint_id, 9);
    }

    #[test]
    fn an_ended_attempt_is_told_with_what_it_left_behind() {
        let mut tasks = Tasks::default();
        tasks.deployed(&deployment(0, 0));
        let finished = TaskStateUpdate {
            final_snapshot: Some(TaskSnapshot::default()),
            ..update(0, TaskState::Finished)
        };
        tasks.told(&finished);
        assert_eq!(described(&tasks).tasks, [finished]);
    }

    #[test]
    fn a_savepoint_to_stop_with_is_told_until_something_is_deployed() {
        let mut tasks = Tasks::default();
        tasks.deployed(&deployment(0, 0));
        tasks.triggered(&stop(6, true));
        let worker = described(&tasks);
        assert_eq!(
            (
                worker.stop_savepoint_id,
                worker.drains,
                worker.newest_checkpoint_id
            ),
            (6, true, 6)
        );
        tasks.deployed(&deployment(1, 6));
        let worker = described(&tasks);
        assert_eq!(
            (
                worker.stop_savepoint_id,
                worker.drains,
                worker.newest_checkpoint_id
            ),
            (0, false, 6)
        );
    }
}
