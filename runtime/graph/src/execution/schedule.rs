//! Scheduling: slots, then workers, then tasks. [`ExecutionGraph::advance`] does all that has become possible.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_proto::control::v1 as control;
use thalweg_types::TaskManagerId;

use super::state::{JobStatus, TaskState, execution_attempt};
use super::{
    Action, ExecutionGraph, RegionPhase, Slot, Step, Subtask, TimerPurpose, Worker, channels_into,
    channels_out, placement,
};

impl ExecutionGraph {
    pub(super) fn start(&mut self, step: &mut Step) {
        if self.status != JobStatus::Created {
            return;
        }
        for region in 0..self.phases.len() {
            if self.phases[region] == RegionPhase::Idle {
                self.wait_for_resources(region, step);
            }
        }
    }

    fn wait_for_resources(&mut self, region: usize, step: &mut Step) {
        self.phases[region] = RegionPhase::Waiting;
        self.not_early.clear();
        for subtask in self.regions[region].subtasks.clone() {
            self.execution_mut(subtask)
                .enter(TaskState::Scheduled, step.now_ms);
        }
    }

    /// Does what the facts so far allow.
    pub(super) fn advance(&mut self, step: &mut Step) {
        match self.status {
            JobStatus::Cancelling | JobStatus::Failing => {
                if self
                    .executions
                    .iter()
                    .flatten()
                    .all(|execution| execution.state.is_terminal())
                {
                    let canceled = self.status == JobStatus::Cancelling;
                    self.end(
                        if canceled {
                            JobStatus::Canceled
                        } else {
                            JobStatus::Failed
                        },
                        step,
                    );
                }
                return;
            }
            JobStatus::Reconciling => {
                if !self.complete_reconciliation(step) {
                    return;
                }
                if self.status == JobStatus::Failing {
                    self.advance(step);
                    return;
                }
            }
            _ => {}
        }
        self.turn_phases(step);
        if self.phases.iter().all(|phase| *phase == RegionPhase::Done) {
            self.end(JobStatus::Finished, step);
            return;
        }
        self.ask_for_slots(step);
        if self.missing_slots() == 0 {
            if self.phases.contains(&RegionPhase::Waiting) {
                self.start_workers(step);
                self.deploy_regions(step);
            }
            self.start_workers_early(step);
        }
        let settled = |phase: &RegionPhase| matches!(phase, RegionPhase::Deployed | RegionPhase::Done);
        if self.phases.iter().all(settled) {
            self.set_status(JobStatus::Running, step);
        }
    }

    /// Regions whose tasks are over: Done, or to be started again.
    fn turn_phases(&mut self, step: &mut Step) {
        for region in 0..self.phases.len() {
            let states = |test: fn(TaskState) -> bool| {
                self.regions[region]
                    .subtasks
                    .iter()
                    .all(|subtask| test(self.execution(*subtask).state))
            };
            match self.phases[region] {
                RegionPhase::Deployed if states(|state| state == TaskState::Finished) => {
                    self.phases[region] = RegionPhase::Done;
                }
                RegionPhase::Restarting { delay: None } if states(TaskState::is_terminal) => {
                    let history = self.settings.attempts_history;
                    let subtasks = self.regions[region].subtasks.clone();
                    let attempts = subtasks.iter().map(|subtask| self.execution(*subtask).attempt);
                    let next = attempts.max().unwrap_or(0).max(self.attempt_floor) + 1;
                    for subtask in subtasks {
                        self.execution_mut(subtask)
                            .begin_attempt(next, history, step.now_ms);
                    }
                    self.wait_for_resources(region, step);
                }
                _ => {}
            }
        }
    }

    // ---- slots -----------------------------------------------------------------------------------

    /// A slot is needed for a subtask that is still to come to its end.
    fn is_needed(&self, shared: usize) -> bool {
        let subtasks = &self.shared_slots[shared].subtasks;
        subtasks
            .iter()
            .any(|subtask| self.phases[self.region_of(*subtask)] != RegionPhase::Done)
    }

    /// Slots that are needed but not held.
    pub(super) fn missing_slots(&self) -> u32 {
        (0..self.placement.len())
            .filter(|shared| self.placement[*shared].is_none() && self.is_needed(*shared))
            .count() as u32
    }

    fn ask_for_slots(&mut self, step: &mut Step) {
        let missing = self.missing_slots();
        if missing == 0 {
            self.slots_asked = false;
            self.timers
                .retain(|_, purpose| *purpose != TimerPurpose::SlotRequest);
        } else if !self.slots_asked && !self.phases.contains(&RegionPhase::Idle) {
            self.slots_asked = true;
            let held = self.slots_held();
            step.actions.push(Action::DeclareSlots {
                required: held + missing,
                held,
            });
            self.timers
                .retain(|_, purpose| *purpose != TimerPurpose::SlotRequest);
            self.set_timer(
                TimerPurpose::SlotRequest,
                self.settings.slot_request_timeout_ms,
                step,
            );
        }
    }

    /// Puts granted slots to use; what is not needed goes back.
    pub(super) fn slots_granted(&mut self, granted: BTreeMap<TaskManagerId, Vec<u32>>, step: &mut Step) {
        let refuses = matches!(
            self.status,
            JobStatus::Cancelling | JobStatus::Failing | JobStatus::Reconciling
        );
        let mut slots = Vec::new();
        for (task_manager, numbers) in granted {
            for slot in numbers {
                let task_manager = task_manager.clone();
                slots.push(Slot { task_manager, slot });
            }
        }
        slots.retain(|slot| !self.placement.contains(&Some(slot.clone())));
        let needing = (0..self.placement.len())
            .filter(|shared| !refuses && self.placement[*shared].is_none() && self.is_needed(*shared))
            .map(|shared| (shared, self.last_placement[shared].as_ref()));
        let (assigned, unused) = placement::assign(needing.collect(), slots);
        for (shared, slot) in assigned {
            self.placement[shared] = Some(slot);
        }
        let mut released = BTreeMap::<TaskManagerId, Vec<u32>>::new();
        for slot in unused {
            released.entry(slot.task_manager).or_default().push(slot.slot);
        }
        for (task_manager, slots) in released {
            step.actions.push(Action::ReleaseSlots { task_manager, slots });
        }
    }

    /// Forgets slots; whether there were any.
    pub(super) fn drop_slots(&mut self, lost: impl Fn(&Slot) -> bool) -> bool {
        let mut any = false;
        for (place, last) in self.placement.iter_mut().zip(&mut self.last_placement) {
            if let Some(slot) = place.take_if(|slot| lost(slot)) {
                *last = Some(slot);
                any = true;
            }
        }
        if any {
            self.slots_asked = false;
        }
        any
    }

    // ---- workers ---------------------------------------------------------------------------------

    /// TaskManagers on which these regions have slots.
    fn task_managers_of(&self, test: impl Fn(RegionPhase) -> bool) -> BTreeSet<TaskManagerId> {
        let has = |shared: usize| {
            let subtasks = &self.shared_slots[shared].subtasks;
            subtasks
                .iter()
                .any(|subtask| test(self.phases[self.region_of(*subtask)]))
        };
        let places = self
            .placement
            .iter()
            .enumerate()
            .filter(|(shared, _)| has(*shared));
        places
            .filter_map(|(_, slot)| slot.as_ref().map(|slot| slot.task_manager.clone()))
            .collect()
    }

    /// Starts a worker wherever a waiting region has slots that no worker has. A worker is given all of the job's slots there,
    /// so an older one is replaced, once no task is left in it.
    fn start_workers(&mut self, step: &mut Step) {
        for task_manager in self.task_managers_of(|phase| phase == RegionPhase::Waiting) {
            if let Some(slots) = self.slots_without_worker(&task_manager)
                && self.vacate(&task_manager, step)
            {
                self.start_worker(task_manager, slots, step);
            }
        }
    }

    /// While regions wait to be started again, starts the workers that they will need where no task is: that takes no time from
    /// the restart then. Once for each restart and TaskManager: whether it works is found out by the restart itself.
    fn start_workers_early(&mut self, step: &mut Step) {
        for task_manager in self.task_managers_of(|phase| matches!(phase, RegionPhase::Restarting { .. })) {
            if let Some(slots) = self.slots_without_worker(&task_manager)
                && self.occupants(&task_manager).is_empty()
                && self.not_early.insert(task_manager.clone())
            {
                self.start_worker(task_manager, slots, step);
            }
        }
    }

    /// All slots held there, if there is no worker that has them all.
    fn slots_without_worker(&self, task_manager: &TaskManagerId) -> Option<BTreeSet<u32>> {
        let held = self.placement.iter().flatten();
        let slots: BTreeSet<u32> = held
            .filter(|slot| slot.task_manager == *task_manager)
            .map(|slot| slot.slot)
            .collect();
        let worker = self.workers.get(task_manager);
        worker
            .is_none_or(|worker| !worker.slots.is_superset(&slots))
            .then_some(slots)
    }

    /// Regions with tasks in a worker.
    fn occupants(&self, task_manager: &TaskManagerId) -> BTreeSet<usize> {
        let is_there = |subtask: &Subtask| {
            let execution = self.execution(*subtask);
            execution.state.is_at_worker() && execution.task_manager.as_ref() == Some(task_manager)
        };
        let subtasks = self.subtasks().into_iter().filter(is_there);
        subtasks.map(|subtask| self.region_of(subtask)).collect()
    }

    /// Whether a worker is free of tasks; regions that still run there are restarted without delay.
    fn vacate(&mut self, task_manager: &TaskManagerId, step: &mut Step) -> bool {
        let occupants = self.occupants(task_manager);
        for region in &occupants {
            if self.phases[*region] == RegionPhase::Deployed {
                self.phases[*region] = RegionPhase::Restarting { delay: None };
                self.cancel_subtasks(&self.regions[*region].subtasks.clone(), step);
            }
        }
        occupants.is_empty()
    }

    fn start_worker(&mut self, task_manager: TaskManagerId, slots: BTreeSet<u32>, step: &mut Step) {
        // time orders the generations of successive leaders, which know nothing of each other's
        let generation = step.now_ms.max(self.last_generation + 1);
        self.last_generation = generation;
        step.actions.push(Action::StartWorker {
            task_manager: task_manager.clone(),
            generation,
            slots: slots.iter().copied().collect(),
        });
        self.workers.insert(
            task_manager,
            Worker {
                generation,
                slots,
                data_address: None,
            },
        );
    }

    pub(super) fn worker_ready(&mut self, at: &TaskManagerId, generation: u64, data_address: String) {
        if let Some(worker) = self.workers.get_mut(at)
            && worker.generation == generation
        {
            worker.data_address = Some(data_address);
        }
    }

    // ---- tasks -----------------------------------------------------------------------------------

    fn deploy_regions(&mut self, step: &mut Step) {
        let mut deployments = BTreeMap::<TaskManagerId, Vec<control::TaskDeployment>>::new();
        for region in 0..self.phases.len() {
            if self.phases[region] != RegionPhase::Waiting {
                continue;
            }
            let subtasks = self.regions[region].subtasks.clone();
            let Some(tasks) = subtasks
                .iter()
                .map(|subtask| self.deployment(*subtask))
                .collect::<Option<Vec<_>>>()
            else {
                continue;
            };
            self.phases[region] = RegionPhase::Deployed;
            for (subtask, (slot, mut deployment)) in subtasks.into_iter().zip(tasks) {
                let execution = self.execution_mut(subtask);
                execution.task_manager = Some(slot.task_manager.clone());
                execution.slot = Some(slot.slot);
                execution.enter(TaskState::Deploying, step.now_ms);
                deployment.deployed_ms = step.now_ms;
                deployments.entry(slot.task_manager).or_default().push(deployment);
            }
        }
        for (task_manager, tasks) in deployments {
            step.actions.push(Action::Deploy { task_manager, tasks });
        }
    }

    /// The slot of a subtask, and the address of the worker that holds it; `None` = not ready.
    fn place_of(&self, (vertex, subtask): Subtask) -> Option<(&Slot, &str)> {
        let slot = self.placement[self.shared_slot_of[vertex][subtask as usize]].as_ref()?;
        let worker = self.workers.get(&slot.task_manager)?;
        let address = worker.data_address.as_deref()?;
        worker.slots.contains(&slot.slot).then_some((slot, address))
    }

    /// All that a worker must know to run a subtask; `None` while it or one that it reads from has no ready worker.
    fn deployment(&self, subtask: Subtask) -> Option<(Slot, control::TaskDeployment)> {
        let (slot, _) = self.place_of(subtask)?;
        let vertex = &self.vertices[subtask.0];
        let inputs = vertex
            .inputs
            .iter()
            .map(|edge| self.input(*edge, subtask.1))
            .collect::<Option<Vec<_>>>()?;
        let deployment = control::TaskDeployment {
            execution: Some(execution_attempt(self.id_of(subtask))),
            vertex: Some(self.job.vertices[subtask.0].clone()),
            slot: slot.slot,
            inputs,
            outputs: vertex
                .outputs
                .iter()
                .map(|edge| self.output(*edge, subtask.1))
                .collect(),
            configuration: self.job.configuration.clone(),
            restore: None,
            // which the leader fills in as it fills in what is restored
            job_started_ms: 0,
            leader_epoch: 0,
            deployed_ms: 0,
        };
        Some((slot.clone(), deployment))
    }

    fn position_of(&self, vertex_id: &str) -> Option<usize> {
        self.job.vertices.iter().position(|vertex| vertex.id == vertex_id)
    }

    fn input(&self, edge: usize, subtask: u32) -> Option<control::InputChannels> {
        let edge = &self.job.edges[edge];
        let source = self.position_of(&edge.source_vertex)?;
        let channels = channels_into(edge, &self.job, subtask)
            .into_iter()
            .map(|(producer, subpartition)| {
                let (_, data_address) = self.place_of((source, producer))?;
                Some(control::InputChannel {
                    producer: Some(execution_attempt(self.id_of((source, producer)))),
                    subpartition,
                    data_address: data_address.to_owned(),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(control::InputChannels {
            edge: edge.edge,
            channels,
        })
    }

    fn output(&self, edge: usize, subtask: u32) -> control::OutputChannels {
        let edge = &self.job.edges[edge];
        let target = self
            .job
            .vertices
            .iter()
            .find(|vertex| vertex.id == edge.target_vertex);
        control::OutputChannels {
            edge: edge.edge,
            consumers: channels_out(edge, &self.job, subtask),
            consumer_max_parallelism: target.map_or(0, |vertex| vertex.max_parallelism),
            consumer_parallelism: target.map_or(0, |vertex| vertex.parallelism),
        }
    }

    // ---- the end ---------------------------------------------------------------------------------

    /// Gives back all that the job has.
    fn end(&mut self, status: JobStatus, step: &mut Step) {
        for (task_manager, worker) in std::mem::take(&mut self.workers) {
            step.actions.push(Action::StopWorker {
                task_manager,
                generation: worker.generation,
            });
        }
        for (task_manager, slots) in self.held_slots() {
            step.actions.push(Action::ReleaseSlots { task_manager, slots });
        }
        self.placement.fill(None);
        self.timers.clear();
        step.actions.push(Action::DeclareSlots { required: 0, held: 0 });
        self.set_status(status, step);
    }
}
