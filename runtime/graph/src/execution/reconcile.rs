//! A new leader's ExecutionGraph: built from what the TaskManagers say that they run, without restarting it.

use std::collections::BTreeSet;

use thalweg_proto::graph::v1::JobGraph;
use thalweg_types::{Failure, FailureClass, TaskManagerId};

use super::state::{JobStatus, StateTimestamps, TaskState};
use super::{Action, ExecutionGraph, RegionPhase, Slot, Step, Subtask, TaskReport, TimerPurpose, Worker};
use crate::GraphError;

/// What a reported worker's slots hold.
struct Adoption {
    /// Shared slots by position.
    places: Vec<(usize, Slot)>,
    /// Slots left over.
    unused: Vec<u32>,
}

impl ExecutionGraph {
    /// A job that runs already, under an earlier leader. It waits for [`super::Fact::WorkerReported`] from the TaskManagers; it
    /// is RUNNING once each task is accounted for. Tasks that nobody reported within `timeout_ms` count as failed.
    pub fn reconciling(
        job: JobGraph,
        timeout_ms: u64,
        now_ms: u64,
    ) -> Result<(Self, Vec<Action>), GraphError> {
        let mut graph = Self::new(job, now_ms)?;
        graph.status = JobStatus::Reconciling;
        graph.status_timestamps = StateTimestamps::starting(JobStatus::Reconciling, now_ms);
        for execution in graph.executions.iter_mut().flatten() {
            execution.enter(TaskState::Reconciling, now_ms);
        }
        let mut step = Step {
            now_ms,
            random: 0.0,
            actions: Vec::new(),
        };
        graph.set_timer(TimerPurpose::Reconciliation, timeout_ms, &mut step);
        Ok((graph, step.actions))
    }

    pub(super) fn worker_reported(
        &mut self,
        at: &TaskManagerId,
        slots: &[u32],
        data_address: String,
        tasks: Vec<TaskReport>,
        step: &mut Step,
    ) {
        if self.workers.contains_key(at) {
            // known already: a worker's own news come as other facts
            return;
        }
        let plan = if self.status == JobStatus::Reconciling {
            self.adoption(at, slots, &tasks)
        } else {
            None
        };
        let Some(Adoption { places, unused }) = plan else {
            step.actions.push(Action::StopWorker {
                task_manager: at.clone(),
                generation: u64::MAX,
            });
            return;
        };
        for (shared, slot) in places {
            self.placement[shared] = Some(slot);
        }
        for report in tasks {
            self.adopt(at, report, step.now_ms);
        }
        let slots: BTreeSet<u32> = slots
            .iter()
            .copied()
            .filter(|slot| !unused.contains(slot))
            .collect();
        self.workers.insert(
            at.clone(),
            Worker {
                generation: None,
                slots,
                data_address: Some(data_address),
            },
        );
        if !unused.is_empty() {
            step.actions.push(Action::ReleaseSlots {
                task_manager: at.clone(),
                slots: unused,
            });
        }
    }

    /// Which shared slot is in which slot there; `None` = the report does not fit this job or what
    /// other TaskManagers reported.
    fn adoption(&self, at: &TaskManagerId, slots: &[u32], tasks: &[TaskReport]) -> Option<Adoption> {
        let mut shared = BTreeSet::new();
        for report in tasks {
            let subtask = self.subtask_of(report.execution)?;
            if self.execution(subtask).state == TaskState::Reconciling {
                shared.insert(self.shared_slot_of[subtask.0][subtask.1 as usize]);
            } else if report.state.is_at_worker() {
                return None;
            }
        }
        let distinct: BTreeSet<u32> = slots.iter().copied().collect();
        if shared.iter().any(|shared| self.placement[*shared].is_some()) || shared.len() > distinct.len() {
            return None;
        }
        let unused = distinct.iter().skip(shared.len()).copied().collect();
        let places = shared
            .into_iter()
            .zip(distinct)
            .map(|(shared, slot)| {
                (
                    shared,
                    Slot {
                        task_manager: at.clone(),
                        slot,
                    },
                )
            })
            .collect();
        Some(Adoption { places, unused })
    }

    fn adopt(&mut self, at: &TaskManagerId, report: TaskReport, now_ms: u64) {
        let Some(subtask) = self.subtask_of(report.execution) else {
            return;
        };
        let slot = self.slot_number_of(subtask);
        let execution = self.execution_mut(subtask);
        // several attempts of a subtask may be reported: the newest counts
        let newer = report.execution.attempt > execution.attempt;
        if execution.state != TaskState::Reconciling && !newer {
            return;
        }
        execution.attempt = report.execution.attempt;
        execution.task_manager = Some(at.clone());
        execution.slot = slot;
        execution.failure = report.failure;
        let state = match report.state {
            // a worker has it, whatever it says
            TaskState::Created | TaskState::Scheduled | TaskState::Reconciling => TaskState::Deploying,
            // what an earlier leader had begun to cancel ends, and is then started again
            state => state,
        };
        execution.enter(state, now_ms);
    }

    fn slot_number_of(&self, (vertex, subtask): Subtask) -> Option<u32> {
        self.placement[self.shared_slot_of[vertex][subtask as usize]]
            .as_ref()
            .map(|slot| slot.slot)
    }

    pub(super) fn reconciliation_timed_out(&mut self, step: &mut Step) {
        if self.status != JobStatus::Reconciling {
            return;
        }
        let message = "no TaskManager reported the task to the new leader in time";
        for execution in self.executions.iter_mut().flatten() {
            if execution.state == TaskState::Reconciling {
                execution.failure = Some(Failure::new(FailureClass::Retryable, message));
                execution.enter(TaskState::Failed, step.now_ms);
            }
        }
    }

    /// When all tasks are known: the job is RUNNING, and regions with a failed one restart. Whether that is so.
    pub(super) fn complete_reconciliation(&mut self, step: &mut Step) -> bool {
        if self
            .executions
            .iter()
            .flatten()
            .any(|execution| execution.state == TaskState::Reconciling)
        {
            return false;
        }
        self.timers
            .retain(|_, purpose| *purpose != TimerPurpose::Reconciliation);
        self.phases.fill(RegionPhase::Deployed);
        self.set_status(JobStatus::Running, step);
        let mut failed = BTreeSet::new();
        let mut failure = Failure::new(
            FailureClass::Retryable,
            "a task was canceled under the leader before",
        );
        for subtask in self.subtasks() {
            let execution = self.execution(subtask);
            if matches!(
                execution.state,
                TaskState::Failed | TaskState::Canceled | TaskState::Canceling
            ) {
                failed.insert(self.region_of(subtask));
                if let Some(own) = &execution.failure {
                    failure = own.clone();
                }
            }
        }
        if !failed.is_empty() {
            self.fail_regions(&failed, None, &failure, step);
        }
        true
    }
}
