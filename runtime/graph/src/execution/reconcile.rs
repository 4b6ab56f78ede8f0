//! A new leader's ExecutionGraph: built from what the TaskManagers say that they run, without restarting it.
//!
//! ```text
//!   WorkerReported --fits?--> adopted: placement, worker, attempts, states -----all known----> RUNNING
//!        |                        ^  |                                   \--- some missing --> those regions restart
//!        | no: StopWorker         |  | its TaskManager is lost, or a newer attempt shows that it was given up
//!        v ReleaseSlots           |  v
//!      its tasks stay RECONCILING-+--+
//! ```
//!
//! What fits: tasks of this job whose state goes on from the newest completed checkpoint, and that no other TaskManager has. An
//! earlier leader may have given a TaskManager up, unknown to that, and started its tasks elsewhere. It shows by one of two things:
//! the tasks took no part in the newest checkpoint, or a task of the same region has a newer attempt, because all attempts of
//! a region grow together. Whichever of the two reports comes first, the outdated worker is stopped.
//!
//! Missing is what nobody reported within the time-out, or before that, what is in no slot though all of the job's slots were
//! reported. Whoever knows how much room there is may give it up earlier ([`ExecutionGraph::missing`]). A restart for that reason is the
//! leader's doing: the restart strategy is not asked.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_proto::graph::v1::JobGraph;
use thalweg_types::config::FailoverStrategy;
use thalweg_types::{ExecutionId, Failure, FailureClass, TaskManagerId, VertexId};

use super::message::{ReportedTask, ReportedWorker};
use super::state::{Execution, JobStatus, StateTimestamps, TaskState};
use super::{Action, ExecutionGraph, RegionPhase, Slot, Step, Subtask, TimerPurpose, Worker};
use crate::GraphError;

/// What a new leader knows of a job that runs.
#[derive(Debug, Clone, Default)]
pub struct Reconciliation {
    /// How long TaskManagers have to report.
    pub timeout_ms: u64,
    /// The newest completed checkpoint, which all tasks go on from; 0 = there is none.
    pub newest_checkpoint: u64,
    /// The subtasks that it holds as finished.
    pub finished: BTreeSet<(VertexId, u32)>,
    /// The newest attempt that was begun of a region, by one of its subtasks: older ones don't go on, whoever reports them.
    pub begun: BTreeMap<(VertexId, u32), u32>,
}

/// What nobody has reported yet of a job that is RECONCILING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Slots that it would need.
    pub slots: u32,
    /// Whether a part of the job was reported.
    pub is_part: bool,
    /// Whether it has to be started again whoever reports it: a task beside each that is missing has failed.
    pub restarts_anyway: bool,
}

/// What of it lasts while the job is RECONCILING.
#[derive(Debug, Default)]
pub(super) struct Reports {
    newest_checkpoint: u64,
    finished: BTreeSet<(VertexId, u32)>,
    /// The newest attempt that was begun, by region.
    begun: BTreeMap<usize, u32>,
    /// Slots of the workers that were adopted or are known to be gone.
    slots: BTreeMap<TaskManagerId, usize>,
}

impl ExecutionGraph {
    /// A job that runs already, under an earlier leader. It waits for [`super::Fact::WorkerReported`] from the TaskManagers; it
    /// is RUNNING once each task is accounted for. Regions with tasks that nobody reports in time are started again.
    pub fn reconciling(
        job: JobGraph,
        known: Reconciliation,
        now_ms: u64,
    ) -> Result<(Self, Vec<Action>), GraphError> {
        let mut graph = Self::new(job, now_ms)?;
        graph.status = JobStatus::Reconciling;
        graph.status_timestamps = StateTimestamps::starting(JobStatus::Reconciling, now_ms);
        for execution in graph.executions.iter_mut().flatten() {
            execution.enter(TaskState::Reconciling, now_ms);
        }
        graph.attempt_floor = known.begun.values().copied().max().unwrap_or(0);
        graph.reports = Reports {
            newest_checkpoint: known.newest_checkpoint,
            finished: known.finished,
            begun: graph.by_region(known.begun),
            slots: BTreeMap::new(),
        };
        let mut step = Step {
            now_ms,
            random: 0.0,
            actions: Vec::new(),
        };
        graph.set_timer(TimerPurpose::Reconciliation, known.timeout_ms, &mut step);
        Ok((graph, step.actions))
    }

    pub(super) fn worker_reported(&mut self, at: &TaskManagerId, worker: ReportedWorker, step: &mut Step) {
        // Also of one that is sent away: what is started in its place comes after it, by whichever clock it was numbered.
        self.last_generation = self.last_generation.max(worker.generation);
        if self.workers.contains_key(at) {
            // known already: a worker's own news come as other facts
            return;
        }
        if self.status != JobStatus::Reconciling || !self.goes_on(&worker) {
            send_away(at, &worker, step);
            return;
        }
        self.supersede(&worker, step);
        let Some(places) = self.places(&worker) else {
            send_away(at, &worker, step);
            return;
        };
        self.adopt(at, worker, places, step);
    }

    /// Whether all that the worker runs is the job's, and goes on from its newest checkpoint and attempts.
    fn goes_on(&self, worker: &ReportedWorker) -> bool {
        worker.tasks.iter().all(|task| {
            let Some(subtask) = self.subtask_of(task.report.execution) else {
                return false;
            };
            let runs = worker.data_address.is_some() && task.report.state.is_at_worker();
            let attempt = task.report.execution.attempt;
            !runs
                || task.checkpoint >= self.reports.newest_checkpoint
                    && self
                        .newest_attempt(self.region_of(subtask))
                        .is_none_or(|newest| attempt >= newest)
        })
    }

    fn by_region(&self, attempts: impl IntoIterator<Item = ((VertexId, u32), u32)>) -> BTreeMap<usize, u32> {
        let mut newest = BTreeMap::new();
        for ((vertex, subtask), attempt) in attempts {
            let regions = self.vertex_position(vertex).map(|vertex| &self.region_of[vertex]);
            if let Some(region) = regions.and_then(|regions| regions.get(subtask as usize)) {
                let known = newest.entry(*region).or_default();
                *known = attempt.max(*known);
            }
        }
        newest
    }

    /// The newest attempts of the regions of these tasks, each by a subtask that names the region.
    pub fn regions_of(&self, tasks: impl IntoIterator<Item = ExecutionId>) -> BTreeMap<(VertexId, u32), u32> {
        let attempts = tasks.into_iter().map(|id| ((id.vertex, id.subtask), id.attempt));
        let named = |(region, attempt): (usize, u32)| {
            let (vertex, subtask) = *self.regions[region].subtasks.first()?;
            Some(((self.vertices[vertex].id, subtask), attempt))
        };
        self.by_region(attempts).into_iter().filter_map(named).collect()
    }

    /// The newest attempt that was begun or reported of a region.
    fn newest_attempt(&self, region: usize) -> Option<u32> {
        let subtasks = self.regions[region].subtasks.iter();
        let executions = subtasks.map(|subtask| self.execution(*subtask));
        let reported = executions.filter(|execution| execution.state != TaskState::Reconciling);
        let reported = reported.map(|execution| execution.attempt);
        reported.chain(self.reports.begun.get(&region).copied()).max()
    }

    /// Where this worker's regions were reported with older attempts: what runs with one is stopped, what ended does not count.
    fn supersede(&mut self, worker: &ReportedWorker, step: &mut Step) {
        for task in &worker.tasks {
            let Some(subtask) = self.subtask_of(task.report.execution) else {
                continue;
            };
            for other in self.regions[self.region_of(subtask)].subtasks.clone() {
                let execution = self.execution(other);
                let older = execution.attempt < task.report.execution.attempt;
                match (&execution.task_manager, older) {
                    (Some(at), true) if execution.state.is_at_worker() => self.dismiss(&at.clone(), step),
                    (Some(_), true) => self.await_report(other, step.now_ms),
                    _ => {}
                }
            }
        }
    }

    fn await_report(&mut self, subtask: Subtask, now_ms: u64) {
        let execution = self.execution_mut(subtask);
        *execution = Execution::new(0, now_ms);
        execution.enter(TaskState::Reconciling, now_ms);
    }

    /// Stops a worker that was adopted, and waits for its tasks again.
    fn dismiss(&mut self, at: &TaskManagerId, step: &mut Step) {
        if let Some(worker) = self.workers.get(at) {
            step.actions.push(Action::StopWorker {
                task_manager: at.clone(),
                generation: worker.generation,
            });
        }
        if let Some(slots) = self.held_slots().remove(at) {
            step.actions.push(Action::ReleaseSlots {
                task_manager: at.clone(),
                slots,
            });
        }
        self.forget_report(at, step.now_ms);
    }

    /// A TaskManager's report does not count any more.
    pub(super) fn forget_report(&mut self, at: &TaskManagerId, now_ms: u64) {
        self.workers.remove(at);
        self.reports.slots.remove(at);
        self.drop_slots(|slot| slot.task_manager == *at);
        for subtask in self.subtasks() {
            if self.execution(subtask).task_manager.as_ref() == Some(at) {
                self.await_report(subtask, now_ms);
            }
        }
    }

    /// Which shared slot is in which slot there; `None` = it has what another TaskManager has, or contradicts itself.
    fn places(&self, worker: &ReportedWorker) -> Option<BTreeMap<usize, u32>> {
        let mut places = BTreeMap::new();
        let has = |slot: u32| worker.slots.contains(&slot);
        // what runs first: an ended task has no claim
        let (running, ended): (Vec<_>, Vec<_>) = worker
            .tasks
            .iter()
            .partition(|task| task.report.state.is_at_worker());
        if worker.data_address.is_none() {
            return Some(places);
        }
        for task in running {
            let subtask = self.subtask_of(task.report.execution)?;
            let shared = self.shared_slot_of[subtask.0][subtask.1 as usize];
            let taken = self.placement[shared].is_some()
                || self.execution(subtask).state != TaskState::Reconciling
                || places
                    .iter()
                    .any(|(other, slot)| *slot == task.slot && *other != shared);
            let before = places.insert(shared, task.slot);
            if taken || !has(task.slot) || before.is_some_and(|slot| slot != task.slot) {
                return None;
            }
        }
        for task in ended {
            let subtask = self.subtask_of(task.report.execution)?;
            let shared = self.shared_slot_of[subtask.0][subtask.1 as usize];
            let free = self.placement[shared].is_none()
                && !places.contains_key(&shared)
                && !places.values().any(|slot| *slot == task.slot);
            if free && has(task.slot) {
                places.insert(shared, task.slot);
            }
        }
        Some(places)
    }

    fn adopt(
        &mut self,
        at: &TaskManagerId,
        worker: ReportedWorker,
        places: BTreeMap<usize, u32>,
        step: &mut Step,
    ) {
        let lives = worker.data_address.is_some();
        self.reports.slots.insert(at.clone(), worker.slots.len());
        for (shared, slot) in &places {
            let task_manager = at.clone();
            self.placement[*shared] = Some(Slot {
                task_manager,
                slot: *slot,
            });
        }
        for task in &worker.tasks {
            self.adopt_task(at, task, lives, step.now_ms);
            if !lives && let Some((vertex, subtask)) = self.subtask_of(task.report.execution) {
                // what it ran had better come back there
                let shared = self.shared_slot_of[vertex][subtask as usize];
                let (task_manager, slot) = (at.clone(), task.slot);
                self.last_placement[shared] = Some(Slot { task_manager, slot });
            }
        }
        if places.is_empty() {
            send_away(at, &worker, step);
            return;
        }
        let slots: BTreeSet<u32> = places.into_values().collect();
        let mut unused = worker.slots;
        unused.retain(|slot| !slots.contains(slot));
        self.workers.insert(
            at.clone(),
            Worker {
                generation: worker.generation,
                slots,
                data_address: worker.data_address,
            },
        );
        if !unused.is_empty() {
            step.actions.push(Action::ReleaseSlots {
                task_manager: at.clone(),
                slots: unused,
            });
        }
    }

    fn adopt_task(&mut self, at: &TaskManagerId, task: &ReportedTask, lives: bool, now_ms: u64) {
        let id = task.report.execution;
        let Some(subtask) = self.subtask_of(id) else {
            return;
        };
        self.attempt_floor = self.attempt_floor.max(id.attempt);
        let outdated = self
            .newest_attempt(self.region_of(subtask))
            .is_some_and(|newest| newest > id.attempt);
        // it ended where nobody heard of it, and the newest checkpoint goes on without that
        let unheard = task.report.state == TaskState::Finished
            && task.checkpoint < self.reports.newest_checkpoint
            && !self.reports.finished.contains(&(id.vertex, id.subtask));
        if self.execution(subtask).state != TaskState::Reconciling || outdated || unheard {
            return;
        }
        let execution = self.execution_mut(subtask);
        execution.attempt = id.attempt;
        execution.task_manager = Some(at.clone());
        execution.slot = Some(task.slot);
        execution.failure.clone_from(&task.report.failure);
        let state = match task.report.state {
            state if state.is_terminal() => state,
            _ if !lives => {
                let message = "its worker process ended while no JobManager led";
                execution.failure = Some(Failure::new(FailureClass::Retryable, message));
                TaskState::Failed
            }
            // a worker has it, whatever it says
            TaskState::Created | TaskState::Scheduled | TaskState::Reconciling => TaskState::Deploying,
            // what an earlier leader had begun to cancel ends, and is then started again
            state => state,
        };
        // It did not begin anew: since when it is in its state nobody knows.
        execution.timestamps = StateTimestamps::starting(TaskState::Deploying, task.deployed_ms);
        execution.enter(
            state,
            if state.is_terminal() {
                now_ms
            } else {
                task.deployed_ms
            },
        );
    }

    pub(super) fn reconciliation_timed_out(&mut self, step: &mut Step) {
        if self.status == JobStatus::Reconciling {
            self.give_up_missing("no TaskManager reported the task to the new leader in time", step);
        }
    }

    pub(super) fn missing_given_up(&mut self, step: &mut Step) {
        if self.status == JobStatus::Reconciling {
            self.give_up_missing(
                "no TaskManager reported the task, and it need not be waited for",
                step,
            );
        }
    }

    /// What is waited for; nothing if the job is not RECONCILING.
    pub fn missing(&self) -> Option<Missing> {
        if self.status != JobStatus::Reconciling {
            return None;
        }
        let is_any = |region: usize, states: &[TaskState]| {
            let mut subtasks = self.regions[region].subtasks.iter();
            subtasks.any(|subtask| states.contains(&self.execution(*subtask).state))
        };
        let over = [TaskState::Failed, TaskState::Canceled];
        let restarts_anyway = match self.settings.failover {
            FailoverStrategy::Full => (0..self.regions.len()).any(|region| is_any(region, &over)),
            FailoverStrategy::Region => (0..self.regions.len())
                .filter(|region| is_any(*region, &[TaskState::Reconciling]))
                .all(|region| is_any(region, &over)),
        };
        Some(Missing {
            slots: self.placement.iter().filter(|place| place.is_none()).count() as u32,
            is_part: !self.reports.slots.is_empty(),
            restarts_anyway,
        })
    }

    fn give_up_missing(&mut self, message: &str, step: &mut Step) {
        let mut regions = BTreeSet::new();
        for subtask in self.subtasks() {
            if self.execution(subtask).state == TaskState::Reconciling {
                regions.insert(self.region_of(subtask));
                let execution = self.execution_mut(subtask);
                execution.failure = Some(Failure::new(FailureClass::Retryable, message));
                execution.enter(TaskState::Failed, step.now_ms);
            }
        }
        self.conclude(&regions, step);
    }

    /// When all tasks are known: the job is RUNNING, and regions with a failed one restart. Whether that is so.
    pub(super) fn complete_reconciliation(&mut self, step: &mut Step) -> bool {
        let mut executions = self.executions.iter().flatten();
        if !executions.any(|execution| execution.state == TaskState::Reconciling) {
            self.conclude(&BTreeSet::new(), step);
        } else if self.reports.slots.values().sum::<usize>() >= self.shared_slots.len() {
            self.give_up_missing("the task ran in none of the job's slots", step);
        }
        self.status != JobStatus::Reconciling
    }

    /// `missing`: regions of which something did not turn up.
    fn conclude(&mut self, missing: &BTreeSet<usize>, step: &mut Step) {
        self.timers
            .retain(|_, purpose| *purpose != TimerPurpose::Reconciliation);
        self.reports = Reports::default();
        self.phases.fill(RegionPhase::Deployed);
        let mut failed = BTreeSet::new();
        let mut failure = Failure::new(
            FailureClass::Retryable,
            "a task was canceled under the leader before",
        );
        for subtask in self.subtasks() {
            let region = self.region_of(subtask);
            let execution = self.execution_mut(subtask);
            if execution.state == TaskState::Canceling {
                // it is told again: whether it heard of it before, nobody knows
                execution.enter(TaskState::Running, step.now_ms);
            } else if !matches!(execution.state, TaskState::Failed | TaskState::Canceled) {
                continue;
            }
            let own = execution.failure.clone();
            let fatal = own
                .as_ref()
                .is_some_and(|own| own.class != FailureClass::Retryable);
            if missing.contains(&region) && !fatal {
                continue;
            }
            failed.insert(region);
            if let Some(own) = own.filter(|_| failure.class == FailureClass::Retryable) {
                failure = own;
            }
        }
        if !missing.is_empty() {
            self.restart_missing(missing, step);
        }
        if !failed.is_empty() {
            self.fail_regions(&failed, None, &failure, step);
        }
        if self.status == JobStatus::Reconciling {
            self.set_status(JobStatus::Running, step);
        }
    }
}

/// Nothing of it can be used.
pub(super) fn send_away(at: &TaskManagerId, worker: &ReportedWorker, step: &mut Step) {
    step.actions.push(Action::StopWorker {
        task_manager: at.clone(),
        generation: u64::MAX,
    });
    if !worker.slots.is_empty() {
        step.actions.push(Action::ReleaseSlots {
            task_manager: at.clone(),
            slots: worker.slots.clone(),
        });
    }
}
