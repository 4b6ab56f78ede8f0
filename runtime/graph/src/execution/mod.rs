//! The ExecutionGraph: one job on its way through slots, workers, tasks and failures, as a pure state machine.
//!
//! ```text
//!   JobMaster --Fact, now, random--> ExecutionGraph --Action*--> ResourceManager, TaskManagers, timers
//!
//!   CREATED ---all tasks deployed---> RUNNING ---all tasks FINISHED---> FINISHED
//!      |  ^                            |   ^
//!      |  RESTARTING <--failure--------+   |        CANCELLING --> CANCELED   (cancel requested)
//!      |      +---- delay over, tasks gone, slots held, workers ready ----+   FAILING    --> FAILED     (no restart)
//!      |
//!   RECONCILING --all tasks reported by their TaskManagers--> RUNNING, or RESTARTING what is missing
//!
//!   a region:   Waiting --slots, workers--> Deployed --all FINISHED--> Done
//!                  ^                           | failure
//!                  +--delay over, tasks gone-- Restarting
//! ```
//!
//! What the caller does: it turns what happens into a [`Fact`], calls [`ExecutionGraph::apply`], and carries out the
//! returned [`Action`]s in their order. Nothing here blocks, reads a clock or draws a random number.
//!
//! Slots: the job declares how many it wants ([`Action::DeclareSlots`]); the ResourceManager grants them as they come
//! ([`Fact::SlotsGranted`]). They stay with the job until it ends ([`Action::ReleaseSlots`]) or their TaskManager is lost
//! (no action: they are gone); then those that take their place are wanted where they were ([`ExecutionGraph::wanted_slots`]).
//! The job starts when it holds all of them. Each holds one [`SharedSlot`]: one subtask of each
//! vertex of its slot-sharing group.
//!
//! Workers: one process a TaskManager and job. A new [`Action::StartWorker`] with a higher generation replaces the older
//! one there. Generations grow, also from one leader to the next: they are made from `now_ms`. A restart that waits for its
//! delay has its workers started meanwhile, where no task is in the way.
//!
//! Invariants:
//! - a terminal job status never changes, and a job that reached one holds no slot, worker or timer (SUSPENDED apart: its tasks run on);
//! - each execution has one current attempt; facts about another attempt or an older worker change nothing;
//! - every granted slot is held or has been released; a slot carries at most one shared slot;
//! - a region is deployed as a whole, when every worker that it needs is ready.

mod ended;
mod failure;
mod message;
mod placement;
mod reconcile;
mod restart;
mod schedule;
mod state;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thalweg_proto::graph::v1::JobGraph;
use thalweg_types::config::{Configuration, FailoverStrategy, options};
use thalweg_types::{ExecutionId, Failure, JobId, TaskManagerId, VertexId};

pub use crate::channels::{channels_into, channels_out};
pub use failure::FailureEntry;
pub use message::{Action, Fact, ReportedTask, ReportedWorker, TaskReport, TimerId};
pub use reconcile::{Missing, Reconciliation};
pub use restart::{Backoff, RestartBackoff, RestartStrategy};
pub use state::{
    AttemptRecord, Execution, JobStatus, StateTimestamps, TaskState, execution_attempt, execution_id,
    failure_from_proto, failure_to_proto,
};

use crate::region::{Region, pipelined_regions};
use crate::{GraphError, SharedSlot, slot_assignment};

/// Where a region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RegionPhase {
    /// Not started yet, or not told to.
    Idle,
    /// For slots and workers.
    Waiting,
    /// Its tasks were sent out.
    Deployed,
    /// For its tasks to end and for the restart delay.
    Restarting {
        /// `None` = over.
        delay: Option<TimerId>,
    },
    /// All its tasks are FINISHED.
    Done,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimerPurpose {
    /// The delay before regions restart.
    Restart,
    /// The job has waited long enough for slots.
    SlotRequest,
    /// TaskManagers had long enough to report what they run.
    Reconciliation,
}

/// The job's worker on one TaskManager.
#[derive(Debug, Clone)]
struct Worker {
    generation: u64,
    slots: BTreeSet<u32>,
    /// `None` = not ready yet.
    data_address: Option<String>,
}

/// A slot that the job holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    task_manager: TaskManagerId,
    slot: u32,
}

/// One vertex, its edges by position in the JobGraph's list.
#[derive(Debug)]
struct Vertex {
    id: VertexId,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

/// One subtask: vertex by position, 0-based subtask.
type Subtask = (usize, u32);

#[derive(Debug)]
struct Settings {
    failover: FailoverStrategy,
    slot_request_timeout_ms: u64,
    exception_history: usize,
    attempts_history: usize,
}

/// One job.
#[derive(Debug)]
pub struct ExecutionGraph {
    // fixed
    job: JobGraph,
    job_id: JobId,
    vertices: Vec<Vertex>,
    shared_slots: Vec<SharedSlot>,
    /// By vertex and subtask.
    shared_slot_of: Vec<Vec<usize>>,
    regions: Vec<Region>,
    region_of: Vec<Vec<usize>>,
    settings: Settings,
    // changing
    status: JobStatus,
    status_timestamps: StateTimestamps<JobStatus>,
    executions: Vec<Vec<Execution>>,
    phases: Vec<RegionPhase>,
    /// By shared slot.
    placement: Vec<Option<Slot>>,
    /// By shared slot: where it was when it lost its slot.
    last_placement: Vec<Option<Slot>>,
    /// Where no worker is started before the restart delay is over: one was, or couldn't be started.
    not_early: BTreeSet<TaskManagerId>,
    workers: BTreeMap<TaskManagerId, Worker>,
    last_generation: u64,
    reports: reconcile::Reports,
    /// The newest attempt that a TaskManager reported to this leader: those to come are newer, wherever.
    attempt_floor: u32,
    backoff: RestartBackoff,
    /// Missing slots have been declared.
    slots_asked: bool,
    timers: BTreeMap<TimerId, TimerPurpose>,
    last_timer: u64,
    restarts: u32,
    history: VecDeque<FailureEntry>,
    /// Why the job ends, while it is FAILING.
    fatal: Option<Failure>,
}

/// One fact's time, randomness and consequences.
struct Step {
    now_ms: u64,
    random: f64,
    actions: Vec<Action>,
}

impl ExecutionGraph {
    /// A job that waits for [`Fact::Start`]. Reads the JobGraph's own configuration.
    pub fn new(job: JobGraph, now_ms: u64) -> Result<Self, GraphError> {
        let configuration = Configuration::from_map(job.configuration.clone());
        let job_id: JobId = job.job_id.parse()?;
        let vertices = vertices_of(&job)?;
        let shared_slots = slot_assignment(&job);
        let regions = pipelined_regions(&job);
        let attempts_history = configuration.get(&options::ATTEMPTS_HISTORY_SIZE)? as usize;
        let settings = Settings {
            failover: configuration.get(&options::FAILOVER_STRATEGY)?,
            slot_request_timeout_ms: configuration.get(&options::SLOT_REQUEST_TIMEOUT)?.as_millis() as u64,
            exception_history: configuration.get(&options::WEB_EXCEPTION_HISTORY_SIZE)? as usize,
            attempts_history,
        };
        let executions = job
            .vertices
            .iter()
            .map(|vertex| {
                (0..vertex.parallelism)
                    .map(|_| Execution::new(0, now_ms))
                    .collect()
            })
            .collect();
        let per_subtask = |groups: Vec<&[Subtask]>| {
            let mut of: Vec<Vec<usize>> = job
                .vertices
                .iter()
                .map(|v| vec![0; v.parallelism as usize])
                .collect();
            for (index, subtasks) in groups.into_iter().enumerate() {
                for (vertex, subtask) in subtasks {
                    of[*vertex][*subtask as usize] = index;
                }
            }
            of
        };
        Ok(Self {
            job_id,
            vertices,
            shared_slot_of: per_subtask(
                shared_slots
                    .iter()
                    .map(|shared| shared.subtasks.as_slice())
                    .collect(),
            ),
            region_of: per_subtask(regions.iter().map(|region| region.subtasks.as_slice()).collect()),
            settings,
            status: JobStatus::Created,
            status_timestamps: StateTimestamps::starting(JobStatus::Created, now_ms),
            executions,
            phases: vec![RegionPhase::Idle; regions.len()],
            placement: vec![None; shared_slots.len()],
            last_placement: vec![None; shared_slots.len()],
            not_early: BTreeSet::new(),
            workers: BTreeMap::new(),
            last_generation: 0,
            reports: reconcile::Reports::default(),
            attempt_floor: 0,
            backoff: RestartBackoff::new(RestartStrategy::from_configuration(&configuration)?),
            slots_asked: false,
            timers: BTreeMap::new(),
            last_timer: 0,
            restarts: 0,
            history: VecDeque::new(),
            fatal: None,
            regions,
            shared_slots,
            job,
        })
    }

    /// Takes in a fact and says what follows. `random` is evenly drawn from 0 (included) to 1 (excluded); it spreads restart
    /// delays. `now_ms` is milliseconds since the epoch.
    pub fn apply(&mut self, fact: Fact, now_ms: u64, random: f64) -> Vec<Action> {
        let mut step = Step {
            now_ms,
            random,
            actions: Vec::new(),
        };
        if self.status.is_terminal() {
            self.apply_to_ended(&fact, &mut step);
            return step.actions;
        }
        match fact {
            Fact::Start => self.start(&mut step),
            Fact::SlotsGranted { slots } => self.slots_granted(slots, &mut step),
            Fact::SlotsLost {
                task_manager,
                slots,
                failure,
            } => {
                self.slots_lost(&task_manager, &slots, &failure, &mut step);
            }
            Fact::TaskManagerLost {
                task_manager,
                failure,
            } => {
                self.task_manager_lost(&task_manager, &failure, &mut step);
            }
            Fact::WorkerReady {
                task_manager,
                generation,
                data_address,
            } => {
                self.worker_ready(&task_manager, generation, data_address);
            }
            Fact::WorkerFailed {
                task_manager,
                generation,
                failure,
            } => {
                self.worker_failed(&task_manager, generation, &failure, &mut step);
            }
            Fact::WorkerReported { task_manager, worker } => {
                self.worker_reported(&task_manager, worker, &mut step);
            }
            Fact::MissingGivenUp => self.missing_given_up(&mut step),
            Fact::TaskState(report) => self.task_state(report, &mut step),
            Fact::CancelRequested => self.cancel(&mut step),
            Fact::JobFailed { failure } => {
                let all = (0..self.regions.len()).collect();
                self.fail_regions(&all, None, &failure, &mut step);
            }
            Fact::TimerElapsed { timer } => self.timer_elapsed(timer, &mut step),
            Fact::LeadershipLost => {
                self.timers.clear();
                self.set_status(JobStatus::Suspended, &mut step);
                return step.actions;
            }
        }
        self.advance(&mut step);
        step.actions
    }

    /// A job that has ended keeps nothing that comes late.
    fn apply_to_ended(&self, fact: &Fact, step: &mut Step) {
        if self.status == JobStatus::Suspended {
            return;
        }
        match fact {
            Fact::SlotsGranted { slots } => {
                let granted = slots.iter().filter(|(_, slots)| !slots.is_empty());
                step.actions
                    .extend(granted.map(|(task_manager, slots)| Action::ReleaseSlots {
                        task_manager: task_manager.clone(),
                        slots: slots.clone(),
                    }));
            }
            Fact::WorkerReported { task_manager, worker } => {
                reconcile::send_away(task_manager, worker, step);
            }
            _ => {}
        }
    }

    fn timer_elapsed(&mut self, timer: TimerId, step: &mut Step) {
        match self.timers.remove(&timer) {
            Some(TimerPurpose::Restart) => {
                for phase in &mut self.phases {
                    if *phase == (RegionPhase::Restarting { delay: Some(timer) }) {
                        *phase = RegionPhase::Restarting { delay: None };
                    }
                }
            }
            Some(TimerPurpose::SlotRequest) => self.slot_request_timed_out(step),
            Some(TimerPurpose::Reconciliation) => self.reconciliation_timed_out(step),
            None => {}
        }
    }

    fn set_timer(&mut self, purpose: TimerPurpose, after_ms: u64, step: &mut Step) -> TimerId {
        self.last_timer += 1;
        let timer = TimerId(self.last_timer);
        self.timers.insert(timer, purpose);
        step.actions.push(Action::SetTimer { timer, after_ms });
        timer
    }

    fn set_status(&mut self, to: JobStatus, step: &mut Step) {
        let from = std::mem::replace(&mut self.status, to);
        if from != to {
            self.status_timestamps.enter(to, step.now_ms);
            step.actions.push(Action::StatusChanged { from, to });
        }
    }

    fn execution(&self, (vertex, subtask): Subtask) -> &Execution {
        &self.executions[vertex][subtask as usize]
    }

    fn execution_mut(&mut self, (vertex, subtask): Subtask) -> &mut Execution {
        &mut self.executions[vertex][subtask as usize]
    }

    fn id_of(&self, subtask: Subtask) -> ExecutionId {
        ExecutionId {
            job: self.job_id,
            vertex: self.vertices[subtask.0].id,
            subtask: subtask.1,
            attempt: self.execution(subtask).attempt,
        }
    }

    fn subtasks(&self) -> Vec<Subtask> {
        self.regions
            .iter()
            .flat_map(|region| region.subtasks.iter().copied())
            .collect()
    }

    fn region_of(&self, (vertex, subtask): Subtask) -> usize {
        self.region_of[vertex][subtask as usize]
    }
}

fn vertices_of(job: &JobGraph) -> Result<Vec<Vertex>, GraphError> {
    let mut vertices = Vec::with_capacity(job.vertices.len());
    for vertex in &job.vertices {
        let edges = |of: fn(&thalweg_proto::graph::v1::JobEdge) -> &str| -> Vec<usize> {
            (0..job.edges.len())
                .filter(|&index| of(&job.edges[index]) == vertex.id)
                .collect()
        };
        vertices.push(Vertex {
            id: vertex.id.parse()?,
            inputs: edges(|edge| &edge.target_vertex),
            outputs: edges(|edge| &edge.source_vertex),
        });
    }
    Ok(vertices)
}

#[cfg(test)]
mod tests;
