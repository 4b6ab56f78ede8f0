//! What follows for workers, slots, timers and checkpoints from what the graph decides.
//!
//! ```text
//!   Fact -> ExecutionGraph -> Action --held back until this leader is known to lead--> JobAction
//!                                \--> Checkpoints -> Consequence --------------------> JobAction
//! ```

use std::collections::BTreeMap;

use thalweg_graph::execution::{Action, Fact, JobStatus, execution_id};
use thalweg_proto::control::v1::TaskDeployment;
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_types::{ExecutionId, TaskManagerId, VertexId};

use super::checkpoints::Consequence;
use super::{JobAction, JobMaster, JobTimer, deployment};
use crate::resource_manager::SlotId;
use crate::storage_work::StorageRequest;

impl JobMaster {
    pub(super) fn apply(&mut self, fact: Fact, now_ms: u64) -> Vec<JobAction> {
        let actions = self.graph.apply(fact, now_ms, rand::random());
        self.consequences_of(actions, now_ms)
    }

    pub(super) fn consequences_of(&mut self, actions: Vec<Action>, now_ms: u64) -> Vec<JobAction> {
        // Before anything is deployed; what follows for the graph comes after this fact's own actions.
        let consequences = self.checkpoints.observe(&self.graph, now_ms);
        let (held, actions) = actions.into_iter().partition(|action| self.is_held(action));
        let mut waits = self.hold(held);
        waits.extend(self.follow(actions, consequences, now_ms));
        waits
    }

    pub(super) fn follow(
        &mut self,
        actions: Vec<Action>,
        mut consequences: Vec<Consequence>,
        now_ms: u64,
    ) -> Vec<JobAction> {
        let mut translated = Vec::new();
        let mut deployed = false;
        for action in actions {
            match action {
                Action::Deploy {
                    task_manager,
                    mut tasks,
                } => match self.checkpoints.fill_restores(&mut tasks, self.graph.job_graph()) {
                    Ok(()) => {
                        deployed = true;
                        for task in &mut tasks {
                            task.job_started_ms = self.submitted_ms;
                            task.leader_epoch = self.epoch;
                        }
                        let deploy = |command| JobAction::Send(task_manager.clone(), command);
                        translated.extend(deployment::deploy(tasks).map(deploy));
                    }
                    Err(failure) => consequences.push(Consequence::Fail(failure)),
                },
                action => translated.extend(self.translate(action)),
            }
        }
        if deployed {
            consequences.extend(self.checkpoints.note_restored(&self.graph, now_ms));
        }
        translated.extend(self.carry_out(consequences, now_ms));
        translated
    }

    /// Where another JobManager may lead by now, nothing is deployed before it is known that none does, and from which checkpoint: what
    /// a sink starts with puts an end to what later leaders' tasks prepared. A task that is to be canceled meanwhile is deployed first.
    fn is_held(&self, action: &Action) -> bool {
        match action {
            Action::Deploy { .. } => self.is_recoverable,
            Action::Cancel { .. } => !self.held.is_empty(),
            _ => false,
        }
    }

    pub(super) fn hold(&mut self, held: Vec<Action>) -> Vec<JobAction> {
        let asks = held.iter().any(|action| matches!(action, Action::Deploy { .. }));
        self.held.extend(held);
        if !asks {
            return Vec::new();
        }
        self.confirmations += 1;
        let begin = JobAction::AttemptsBegin(self.begin_held());
        vec![begin, self.checkpoints.work(StorageRequest::Confirm)]
    }

    /// Of what is held back the regions that begin anew.
    fn begin_held(&mut self) -> BTreeMap<(VertexId, u32), u32> {
        let deployments = self.held.iter().filter_map(|action| match action {
            Action::Deploy { tasks, .. } => Some(tasks),
            _ => None,
        });
        let tasks = deployments.flatten().filter_map(|task| task.execution.as_ref());
        let mut regions = self
            .graph
            .regions_of(tasks.filter_map(|task| execution_id(task).ok()));
        // There is none before the first.
        regions.retain(|region, attempt| *attempt > self.begun.get(region).copied().unwrap_or(0));
        self.begun.extend(regions.clone());
        regions
    }

    /// What waited for it goes on, as far as it still holds.
    pub(super) fn let_held_go(&mut self, now_ms: u64) -> Vec<JobAction> {
        if self.held.is_empty() || self.confirmations > 0 || self.checkpoints.is_completing() {
            return Vec::new();
        }
        let mut held = std::mem::take(&mut self.held);
        for action in &mut held {
            if let Action::Deploy { task_manager, tasks } = action {
                let is_wanted = |task: &TaskDeployment| {
                    let id = task
                        .execution
                        .as_ref()
                        .and_then(|execution| execution_id(execution).ok());
                    let execution = id.and_then(|id| self.graph.execution_of(id));
                    execution.is_some_and(|execution| {
                        !execution.state.is_terminal()
                            && execution.task_manager.as_ref() == Some(task_manager)
                    })
                };
                tasks.retain(is_wanted);
            }
        }
        self.follow(held, Vec::new(), now_ms)
    }

    pub(super) fn translate(&mut self, action: Action) -> Vec<JobAction> {
        match action {
            Action::DeclareSlots { required, held } => {
                let wanted = self.graph.wanted_slots().map(|(task_manager, index)| SlotId {
                    task_manager: task_manager.clone(),
                    index,
                });
                let wanted = wanted.collect();
                vec![JobAction::DeclareSlots(required.saturating_sub(held), wanted)]
            }
            Action::ReleaseSlots { task_manager, slots } => {
                let unused = self.workers.release(&task_manager, &slots);
                let slots = slots.into_iter().map(|index| SlotId {
                    task_manager: task_manager.clone(),
                    index,
                });
                let release = JobAction::ReleaseSlots(slots.collect());
                let unused = unused.map(|command| JobAction::Send(task_manager, command));
                unused.into_iter().chain([release]).collect()
            }
            Action::StartWorker {
                task_manager,
                generation,
                slots,
            } => {
                let start = self
                    .workers
                    .start(&task_manager, generation, slots, self.graph.job_graph());
                let start = start.map(|command| self.start_of(task_manager, generation, command));
                start.into_iter().flatten().collect()
            }
            Action::StopWorker {
                task_manager,
                generation,
            } => {
                let stop = self.workers.stop_generation(&task_manager, generation);
                vec![JobAction::Send(task_manager, stop)]
            }
            // Carried out where it is known what they restore.
            Action::Deploy { .. } => Vec::new(),
            Action::Cancel {
                task_manager,
                executions,
            } => self.cancel_tasks(task_manager, executions),
            Action::SetTimer { timer, after_ms } => {
                vec![JobAction::SetTimer(after_ms, JobTimer::Graph(timer))]
            }
            Action::StatusChanged { from, to } => self.status_changed(from, to),
        }
    }

    pub(super) fn start_of(
        &self,
        task_manager: TaskManagerId,
        generation: u64,
        command: Box<Command>,
    ) -> [JobAction; 2] {
        // The TaskManager itself watches the process; this is for one that says nothing at all.
        let limit_ms = self.settings.worker_start_timeout.as_millis() as u64 * 2;
        let timer = JobTimer::WorkerStart {
            task_manager: task_manager.clone(),
            generation,
        };
        [
            JobAction::Send(task_manager, command),
            JobAction::SetTimer(limit_ms, timer),
        ]
    }

    pub(super) fn cancel_tasks(
        &self,
        task_manager: TaskManagerId,
        executions: Vec<ExecutionId>,
    ) -> Vec<JobAction> {
        let command = deployment::cancel(&executions);
        let mut actions = vec![JobAction::Send(task_manager.clone(), command)];
        let limit_ms = self.settings.cancellation_timeout.as_millis() as u64;
        if limit_ms > 0 {
            actions.push(JobAction::SetTimer(
                limit_ms,
                JobTimer::Cancellation {
                    task_manager,
                    executions,
                },
            ));
        }
        actions
    }

    fn status_changed(&mut self, from: JobStatus, to: JobStatus) -> Vec<JobAction> {
        tracing::info!(job = %self.id(), name = self.name(), %from, %to, "job state changed");
        if !to.is_terminal() {
            return Vec::new();
        }
        self.workers.let_go();
        self.held.clear();
        vec![JobAction::Ended]
    }
}
