//! What REST, metrics and the operator read of a job.

use std::collections::BTreeMap;

use thalweg_proto::graph::v1::JobGraph;
use thalweg_types::{ExecutionId, Failure, JobId, TaskManagerId, VertexId};

use super::failure::FailureEntry;
use super::state::{Execution, JobStatus, StateTimestamps, TaskState};
use super::{ExecutionGraph, RegionPhase};

impl ExecutionGraph {
    /// What runs.
    pub fn job_graph(&self) -> &JobGraph {
        &self.job
    }

    /// The job.
    pub fn job_id(&self) -> JobId {
        self.job_id
    }

    /// Its status.
    pub fn status(&self) -> JobStatus {
        self.status
    }

    /// When it last entered each status.
    pub fn status_timestamps(&self) -> &StateTimestamps<JobStatus> {
        &self.status_timestamps
    }

    /// The current attempts of a vertex's subtasks; empty for a position that does not exist.
    pub fn executions(&self, vertex: usize) -> &[Execution] {
        self.executions.get(vertex).map_or(&[], Vec::as_slice)
    }

    /// The position of a vertex.
    pub fn vertex_position(&self, id: VertexId) -> Option<usize> {
        self.vertices.iter().position(|vertex| vertex.id == id)
    }

    /// A subtask, if this is its current attempt.
    pub fn execution_of(&self, id: ExecutionId) -> Option<&Execution> {
        let subtask = self.subtask_of(id)?;
        let execution = self.execution(subtask);
        (execution.attempt == id.attempt).then_some(execution)
    }

    /// The current attempts of all subtasks by vertex, with what they are to a checkpoint: `Some(false)` = the attempt runs,
    /// `Some(true)` = it has finished, `None` = it does not count: it does not run, or its region is to restart.
    pub fn attempts_that_count(&self) -> impl Iterator<Item = (ExecutionId, Option<bool>)> {
        self.executions
            .iter()
            .enumerate()
            .flat_map(move |(vertex, subtasks)| {
                (0..).zip(subtasks).map(move |(subtask, execution)| {
                    let settled = matches!(
                        self.phases[self.region_of((vertex, subtask))],
                        RegionPhase::Deployed | RegionPhase::Done
                    );
                    let counts = match execution.state {
                        TaskState::Running if settled => Some(false),
                        TaskState::Finished if settled => Some(true),
                        _ => None,
                    };
                    (self.id_of((vertex, subtask)), counts)
                })
            })
    }

    /// How often the job or a part of it has been restarted.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Slots that the job needs in all.
    pub fn slots_required(&self) -> u32 {
        self.shared_slots.len() as u32
    }

    /// Slots that it holds.
    pub fn slots_held(&self) -> u32 {
        self.placement.iter().flatten().count() as u32
    }

    /// Where the parts of the job that need a slot had theirs last; they had better be there again.
    pub fn wanted_slots(&self) -> impl Iterator<Item = (&TaskManagerId, u32)> {
        let parts = self.placement.iter().zip(&self.last_placement);
        let last = parts.filter_map(|(now, last)| now.is_none().then_some(last.as_ref()).flatten());
        last.map(|slot| (&slot.task_manager, slot.slot))
    }

    /// Whether the job has this worker there.
    pub fn has_worker(&self, task_manager: &TaskManagerId, generation: u64) -> bool {
        let worker = self.workers.get(task_manager);
        worker.is_some_and(|worker| worker.generation == generation)
    }

    /// TaskManagers and the slots held there.
    pub fn held_slots(&self) -> BTreeMap<TaskManagerId, Vec<u32>> {
        let mut held = BTreeMap::<TaskManagerId, Vec<u32>>::new();
        for slot in self.placement.iter().flatten() {
            held.entry(slot.task_manager.clone()).or_default().push(slot.slot);
        }
        for slots in held.values_mut() {
            slots.sort_unstable();
        }
        held
    }

    /// Tasks in all.
    pub fn tasks_total(&self) -> u32 {
        self.executions
            .iter()
            .map(|executions| executions.len() as u32)
            .sum()
    }

    /// Tasks in a state.
    pub fn tasks_in(&self, state: TaskState) -> u32 {
        self.executions
            .iter()
            .flatten()
            .filter(|execution| execution.state == state)
            .count() as u32
    }

    /// The newest failures, oldest first; bounded by `web.exception-history-size`.
    pub fn failure_history(&self) -> impl ExactSizeIterator<Item = &FailureEntry> + DoubleEndedIterator {
        self.history.iter()
    }

    /// The newest failure, also while the job runs again.
    pub fn last_failure(&self) -> Option<&FailureEntry> {
        self.history.back()
    }

    /// Why the job is not RUNNING, for people: "2 of 4 slots". `None` = it waits for nothing.
    pub fn waiting_for(&self) -> Option<String> {
        if self.status.is_terminal() {
            return None;
        }
        if matches!(self.status, JobStatus::Cancelling | JobStatus::Failing) {
            let left = self
                .executions
                .iter()
                .flatten()
                .filter(|execution| !execution.state.is_terminal())
                .count();
            return Some(format!("{left} of {} tasks to end", self.tasks_total()));
        }
        if self.status == JobStatus::Reconciling {
            let missing = self.tasks_in(TaskState::Reconciling);
            return Some(format!(
                "TaskManagers to report {missing} of {} tasks",
                self.tasks_total()
            ));
        }
        if self.phases.contains(&RegionPhase::Waiting) {
            let missing = self.missing_slots();
            if missing > 0 {
                return Some(format!("{missing} of {} slots", missing + self.slots_held()));
            }
            let all = self.held_slots().len();
            let ready = self
                .workers
                .values()
                .filter(|worker| worker.data_address.is_some())
                .count();
            return Some(format!("{} of {all} workers to start", all.saturating_sub(ready)));
        }
        let restarting = self
            .phases
            .iter()
            .any(|phase| matches!(phase, RegionPhase::Restarting { .. }));
        restarting.then(|| "tasks to end and the restart delay".to_owned())
    }

    /// Why the job is FAILING or FAILED, and why it was not restarted.
    pub fn fatal_failure(&self) -> Option<&Failure> {
        self.fatal.as_ref()
    }
}
