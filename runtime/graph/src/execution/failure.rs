//! Failures and cancellation: which tasks end with a failed one, whether they come back, what is remembered.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_types::config::FailoverStrategy;
use thalweg_types::{ExecutionId, Failure, FailureClass, TaskManagerId};

use super::state::{JobStatus, TaskState};
use super::{Action, Backoff, ExecutionGraph, RegionPhase, Step, Subtask, TaskReport, TimerPurpose};

/// Failures that followed from one are kept up to this number.
const MOST_CONCURRENT: usize = 16;

/// A failure that the job met, for REST and status.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureEntry {
    /// Milliseconds since the epoch.
    pub timestamp_ms: u64,
    /// What happened.
    pub failure: Failure,
    /// "Sum -> Sink: out (1/4)"; `None` = no single task failed.
    pub task_name: Option<String>,
    /// Its attempt.
    pub execution: Option<ExecutionId>,
    /// Where.
    pub task_manager: Option<TaskManagerId>,
    /// Later failures of tasks that were to end because of this one; bounded.
    pub concurrent: Vec<FailureEntry>,
}

impl ExecutionGraph {
    /// A task's own word. Words about another attempt, or of a task that is over, change nothing.
    pub(super) fn task_state(&mut self, report: TaskReport, step: &mut Step) {
        let Some(subtask) = self.subtask_of(report.execution) else {
            return;
        };
        let current = self.execution(subtask).state;
        if self.execution(subtask).attempt != report.execution.attempt || !current.is_at_worker() {
            return;
        }
        let canceling = current == TaskState::Canceling;
        match report.state {
            TaskState::Initializing | TaskState::Running if !canceling && report.state > current => {
                self.execution_mut(subtask).enter(report.state, step.now_ms);
            }
            TaskState::Finished if !canceling => self
                .execution_mut(subtask)
                .enter(TaskState::Finished, step.now_ms),
            // it ended in another way before it heard of the cancellation
            TaskState::Finished | TaskState::Canceled if canceling => {
                self.execution_mut(subtask)
                    .enter(TaskState::Canceled, step.now_ms);
            }
            TaskState::Canceled => {
                let message = "the task was canceled by its TaskManager";
                self.task_failed(subtask, &Failure::new(FailureClass::Retryable, message), step);
            }
            TaskState::Failed => {
                let unknown = || Failure::new(FailureClass::Retryable, "the task failed without saying why");
                self.task_failed(subtask, &report.failure.unwrap_or_else(unknown), step);
            }
            _ => {}
        }
    }

    /// The subtask of an attempt of this job.
    pub(super) fn subtask_of(&self, id: ExecutionId) -> Option<Subtask> {
        let vertex = self.vertex_position(id.vertex)?;
        let exists = id.job == self.job_id && (id.subtask as usize) < self.executions[vertex].len();
        exists.then_some((vertex, id.subtask))
    }

    fn task_failed(&mut self, subtask: Subtask, failure: &Failure, step: &mut Step) {
        let canceling = self.execution(subtask).state == TaskState::Canceling;
        let entry = self.entry_of(subtask, failure, step.now_ms);
        self.end_with(subtask, failure, step.now_ms);
        if canceling {
            self.remember_concurrent(entry);
        } else if self.status != JobStatus::Reconciling {
            let region = self.region_of(subtask);
            self.fail(&BTreeSet::from([region]), entry, step);
        }
    }

    /// FAILED, or CANCELED if that was wanted anyway.
    fn end_with(&mut self, subtask: Subtask, failure: &Failure, now_ms: u64) {
        let execution = self.execution_mut(subtask);
        if execution.state == TaskState::Canceling {
            execution.enter(TaskState::Canceled, now_ms);
        } else {
            execution.failure = Some(failure.clone());
            execution.enter(TaskState::Failed, now_ms);
        }
    }

    fn entry_of(&self, subtask: Subtask, failure: &Failure, now_ms: u64) -> FailureEntry {
        let vertex = &self.job.vertices[subtask.0];
        FailureEntry {
            timestamp_ms: now_ms,
            failure: failure.clone(),
            task_name: Some(format!(
                "{} ({}/{})",
                vertex.name,
                subtask.1 + 1,
                vertex.parallelism
            )),
            execution: Some(self.id_of(subtask)),
            task_manager: self.execution(subtask).task_manager.clone(),
            concurrent: Vec::new(),
        }
    }

    /// Regions fail for a reason that is not one task's.
    pub(super) fn fail_regions(
        &mut self,
        regions: &BTreeSet<usize>,
        task_manager: Option<&TaskManagerId>,
        failure: &Failure,
        step: &mut Step,
    ) {
        let entry = FailureEntry {
            timestamp_ms: step.now_ms,
            failure: failure.clone(),
            task_name: None,
            execution: None,
            task_manager: task_manager.cloned(),
            concurrent: Vec::new(),
        };
        self.fail(regions, entry, step);
    }

    /// Asks the restart strategy, once for all these regions.
    fn fail(&mut self, regions: &BTreeSet<usize>, entry: FailureEntry, step: &mut Step) {
        if matches!(self.status, JobStatus::Cancelling | JobStatus::Failing) {
            self.remember_concurrent(entry);
            return;
        }
        let regions: Vec<usize> = match self.settings.failover {
            FailoverStrategy::Full => (0..self.regions.len()).collect(),
            FailoverStrategy::Region => regions.iter().copied().collect(),
        };
        let failure = entry.failure.clone();
        let is_restarting = |region: &usize| matches!(self.phases[*region], RegionPhase::Restarting { .. });
        if failure.class == FailureClass::Retryable && regions.iter().all(is_restarting) {
            self.remember_concurrent(entry);
            return;
        }
        self.remember(entry);
        if failure.class != FailureClass::Retryable {
            self.fail_job(failure, step);
            return;
        }
        match self.backoff.notify_failure(step.now_ms, step.random) {
            Backoff::GiveUp { reason } => {
                let message = format!("{} (no restart: {reason})", failure.message);
                self.fail_job(Failure { message, ..failure }, step);
            }
            Backoff::Restart { delay_ms } => {
                self.restarts = self.restarts.saturating_add(1);
                self.set_status(JobStatus::Restarting, step);
                let timer = self.set_timer(TimerPurpose::Restart, delay_ms, step);
                for region in regions {
                    if !matches!(self.phases[region], RegionPhase::Restarting { .. }) {
                        self.phases[region] = RegionPhase::Restarting { delay: Some(timer) };
                        self.cancel_subtasks(&self.regions[region].subtasks.clone(), step);
                    }
                }
            }
        }
    }

    /// Regions of which a new leader does not know enough: their restart is nobody's failure, and begins at once.
    pub(super) fn restart_missing(&mut self, missing: &BTreeSet<usize>, step: &mut Step) {
        let regions: Vec<usize> = match self.settings.failover {
            FailoverStrategy::Full => (0..self.regions.len()).collect(),
            FailoverStrategy::Region => missing.iter().copied().collect(),
        };
        self.restarts = self.restarts.saturating_add(1);
        self.set_status(JobStatus::Restarting, step);
        for region in regions {
            self.phases[region] = RegionPhase::Restarting { delay: None };
            self.cancel_subtasks(&self.regions[region].subtasks.clone(), step);
        }
    }

    fn remember(&mut self, entry: FailureEntry) {
        self.history.push_back(entry);
        while self.history.len() > self.settings.exception_history {
            self.history.pop_front();
        }
    }

    fn remember_concurrent(&mut self, entry: FailureEntry) {
        if let Some(newest) = self.history.back_mut()
            && newest.concurrent.len() < MOST_CONCURRENT
        {
            newest.concurrent.push(entry);
        }
    }

    fn fail_job(&mut self, failure: Failure, step: &mut Step) {
        self.fatal = Some(failure);
        self.end_all_tasks(JobStatus::Failing, step);
    }

    pub(super) fn cancel(&mut self, step: &mut Step) {
        if self.status != JobStatus::Cancelling {
            self.fatal = None;
            self.end_all_tasks(JobStatus::Cancelling, step);
        }
    }

    fn end_all_tasks(&mut self, status: JobStatus, step: &mut Step) {
        self.set_status(status, step);
        self.timers.clear();
        self.cancel_subtasks(&self.subtasks(), step);
    }

    /// Cancels what a worker has; what none has is CANCELED at once.
    pub(super) fn cancel_subtasks(&mut self, subtasks: &[Subtask], step: &mut Step) {
        let mut at_workers = BTreeMap::<TaskManagerId, Vec<ExecutionId>>::new();
        for &subtask in subtasks {
            let id = self.id_of(subtask);
            let execution = self.execution_mut(subtask);
            match (execution.state, &execution.task_manager) {
                (TaskState::Deploying | TaskState::Initializing | TaskState::Running, Some(task_manager)) => {
                    at_workers.entry(task_manager.clone()).or_default().push(id);
                    execution.enter(TaskState::Canceling, step.now_ms);
                }
                (TaskState::Canceling, _) => {}
                (state, _) if state.is_terminal() => {}
                _ => execution.enter(TaskState::Canceled, step.now_ms),
            }
        }
        for (task_manager, executions) in at_workers {
            step.actions.push(Action::Cancel {
                task_manager,
                executions,
            });
        }
    }

    pub(super) fn worker_failed(
        &mut self,
        at: &TaskManagerId,
        generation: u64,
        failure: &Failure,
        step: &mut Step,
    ) {
        let known = self
            .workers
            .get(at)
            .is_some_and(|worker| worker.generation == generation);
        if !known {
            return;
        }
        let worker = self.workers.remove(at);
        if worker.is_some_and(|worker| worker.data_address.is_none()) {
            self.not_early.insert(at.clone());
        }
        let mut regions = self.end_tasks_at(at, failure, step.now_ms);
        for (shared, slot) in self.shared_slots.iter().zip(&self.placement) {
            if slot.as_ref().is_some_and(|slot| slot.task_manager == *at) {
                let waits = |phase| matches!(phase, RegionPhase::Waiting | RegionPhase::Restarting { .. });
                let waiting = shared.subtasks.iter().map(|subtask| self.region_of(*subtask));
                regions.extend(waiting.filter(|region| waits(self.phases[*region])));
            }
        }
        self.fail_where_it_matters(&regions, at, failure, step);
    }

    pub(super) fn task_manager_lost(&mut self, lost: &TaskManagerId, failure: &Failure, step: &mut Step) {
        if self.status == JobStatus::Reconciling {
            // it may yet come back and report again
            self.forget_report(lost, step.now_ms);
            return;
        }
        self.workers.remove(lost);
        self.drop_slots(|slot| slot.task_manager == *lost);
        let regions = self.end_tasks_at(lost, failure, step.now_ms);
        self.fail_where_it_matters(&regions, lost, failure, step);
    }

    pub(super) fn slots_lost(
        &mut self,
        at: &TaskManagerId,
        slots: &[u32],
        failure: &Failure,
        step: &mut Step,
    ) {
        if !self.drop_slots(|slot| slot.task_manager == *at && slots.contains(&slot.slot)) {
            return;
        }
        // its worker was given these slots: it can't stay as it is
        if let Some(worker) = self.workers.remove(at) {
            step.actions.push(Action::StopWorker {
                task_manager: at.clone(),
                generation: worker.generation,
            });
        }
        let regions = self.end_tasks_at(at, failure, step.now_ms);
        self.fail_where_it_matters(&regions, at, failure, step);
    }

    /// While it is RECONCILING, failed tasks are dealt with when all are known.
    fn fail_where_it_matters(
        &mut self,
        regions: &BTreeSet<usize>,
        at: &TaskManagerId,
        failure: &Failure,
        step: &mut Step,
    ) {
        if !regions.is_empty() && self.status != JobStatus::Reconciling {
            self.fail_regions(regions, Some(at), failure, step);
        }
    }

    /// The tasks that a worker there had are over; the regions in which one failed by that.
    fn end_tasks_at(&mut self, at: &TaskManagerId, failure: &Failure, now_ms: u64) -> BTreeSet<usize> {
        let mut failed = BTreeSet::new();
        for subtask in self.subtasks() {
            let execution = self.execution(subtask);
            if execution.state.is_at_worker() && execution.task_manager.as_ref() == Some(at) {
                if execution.state != TaskState::Canceling {
                    failed.insert(self.region_of(subtask));
                }
                self.end_with(subtask, failure, now_ms);
            }
        }
        failed
    }

    pub(super) fn slot_request_timed_out(&mut self, step: &mut Step) {
        self.slots_asked = false;
        let waiting: BTreeSet<usize> = (0..self.phases.len())
            .filter(|region| self.phases[*region] == RegionPhase::Waiting)
            .collect();
        if waiting.is_empty() || self.missing_slots() == 0 {
            return;
        }
        let message = format!(
            "{} of {} slots could not be had within {} ms (slot.request.timeout): add TaskManagers or lower the parallelism",
            self.missing_slots(),
            self.slots_required(),
            self.settings.slot_request_timeout_ms
        );
        self.fail_regions(
            &waiting,
            None,
            &Failure::new(FailureClass::Retryable, message),
            step,
        );
    }
}
