//! TaskManagers: who comes and goes, and what they say of workers and tasks.
//!
//! Invariant: a message over a connection that another has replaced, or of another epoch, changes nothing.

use thalweg_graph::execution::{TaskReport, TaskState, execution_id};
use thalweg_proto::control::v1::{
    ExecutionAttempt, RegisterTaskManager, Registered, RegistrationRefused, TaskManagerMessage,
    job_manager_command::Command, task_manager_message::Message,
};
use thalweg_types::{ExecutionId, TaskManagerId};

use super::{Dispatcher, Effect};
use crate::failure::{failure_from_proto, failure_of};
use crate::resource_manager::{ConnectionId, RegistrationError};

impl Dispatcher {
    pub(crate) fn connected(
        &mut self,
        connection: ConnectionId,
        register: &RegisterTaskManager,
        epoch: u64,
        now_ms: u64,
    ) {
        if epoch > self.epoch {
            let id = register.task_manager_id.clone();
            let error = RegistrationError::LaterLeader {
                id,
                theirs: epoch,
                ours: self.epoch,
            };
            return self.refuse(connection, &error);
        }
        let id = TaskManagerId(register.task_manager_id.clone());
        if let Some(old) = self.resources.registry.get(&id).map(|old| old.connection) {
            self.effects.push(Effect::Close(old));
            self.lose(&id, "it registered again", now_ms);
        }
        match self.resources.register(connection, register, now_ms) {
            Ok(id) => {
                tracing::info!(task_manager = %id, host = register.host, slots = register.slots, "TaskManager registered");
                let greeting = Registered {
                    heartbeat_interval_ms: self.settings.heartbeat_interval.as_millis() as u64,
                    heartbeat_timeout_ms: self.settings.heartbeat_timeout.as_millis() as u64,
                };
                self.effects
                    .push(Effect::Send(connection, Box::new(Command::Registered(greeting))));
                self.settle_reports(now_ms);
                self.changed = true;
                self.grant(now_ms);
            }
            Err(error) => self.refuse(connection, &error),
        }
    }

    fn refuse(&mut self, connection: ConnectionId, error: &RegistrationError) {
        tracing::warn!(%error, "a TaskManager was refused");
        let refused = RegistrationRefused {
            reason: error.to_string(),
        };
        self.effects
            .push(Effect::Send(connection, Box::new(Command::Refused(refused))));
        self.effects.push(Effect::Close(connection));
    }

    pub(crate) fn disconnected(&mut self, connection: ConnectionId, now_ms: u64) {
        if let Some(id) = self.resources.registry.of(connection).cloned() {
            self.lose(&id, "its connection broke", now_ms);
            self.grant(now_ms);
        }
    }

    /// The TaskManager is gone, with its slots and workers.
    pub(super) fn lose(&mut self, id: &TaskManagerId, reason: &str, now_ms: u64) {
        tracing::warn!(task_manager = %id, reason, "TaskManager lost");
        self.resources.remove(id);
        self.changed = true;
        for job in self.running_jobs() {
            self.with_job(job, now_ms, |master, now_ms| {
                master.task_manager_lost(id, reason, now_ms)
            });
        }
    }

    pub(crate) fn message(&mut self, connection: ConnectionId, message: TaskManagerMessage, now_ms: u64) {
        let Some(id) = self.resources.registry.of(connection).cloned() else {
            return;
        };
        if message.epoch != self.epoch {
            tracing::warn!(task_manager = %id, theirs = message.epoch, ours = self.epoch, "a message of another epoch was refused");
            let reason = format!(
                "epoch {} is not this leader's epoch {}",
                message.epoch, self.epoch
            );
            self.effects.push(Effect::Send(
                connection,
                Box::new(Command::Refused(RegistrationRefused { reason })),
            ));
            self.effects.push(Effect::Close(connection));
            self.lose(&id, "it follows another leader", now_ms);
            return self.grant(now_ms);
        }
        if let Some(news) = &message.message
            && self.note_in_report(&id, news)
        {
            return;
        }
        match message.message {
            Some(Message::Heartbeat(heartbeat)) => {
                self.resources.registry.heartbeat(&id, &heartbeat, now_ms);
                for task in &heartbeat.tasks {
                    let Some(Ok(execution)) = task.execution.as_ref().map(execution_id) else {
                        continue;
                    };
                    if let Some(master) = self.jobs.get_mut(&execution.job) {
                        master.note_metrics(execution, task);
                    }
                }
            }
            Some(Message::WorkerReady(ready)) => self.for_job(&ready.job_id, now_ms, |master, now_ms| {
                master.worker_ready(&id, ready.worker_generation, &ready.data_address, now_ms)
            }),
            Some(Message::WorkerFailed(failed)) => self.for_job(&failed.job_id, now_ms, |master, now_ms| {
                let failure = failure_of(failed.failure.as_ref());
                master.worker_failed(&id, failed.worker_generation, &failure, now_ms)
            }),
            Some(Message::TaskState(update)) => {
                let execution = update.execution.as_ref().map(execution_id);
                let (Some(Ok(execution)), Some(state)) = (execution, TaskState::from_proto(update.state()))
                else {
                    return tracing::error!(task_manager = %id, ?update, "a malformed task state was dropped");
                };
                let failure = update.failure.as_ref().map(failure_from_proto);
                let report = TaskReport {
                    execution,
                    state,
                    failure,
                };
                self.with_job(execution.job, now_ms, |master, now_ms| {
                    if let Some(metrics) = &update.metrics {
                        master.note_metrics(execution, metrics);
                    }
                    master.task_state(report, update.final_snapshot, now_ms)
                });
            }
            Some(Message::AcknowledgeCheckpoint(acknowledge)) => {
                if let Some(execution) = attempt(&id, acknowledge.execution.as_ref()) {
                    self.with_job(execution.job, now_ms, |master, now_ms| {
                        master.checkpoint_acknowledged(acknowledge, now_ms)
                    });
                }
            }
            Some(Message::DeclineCheckpoint(decline)) => {
                if let Some(execution) = attempt(&id, decline.execution.as_ref()) {
                    self.with_job(execution.job, now_ms, |master, now_ms| {
                        master.checkpoint_declined(decline, now_ms)
                    });
                }
            }
            Some(Message::ReportWatermark(report)) => {
                // Nothing that anybody watches changes by it.
                if let Some(execution) = attempt(&id, report.execution.as_ref())
                    && let Some(master) = self.jobs.get_mut(&execution.job)
                {
                    master.watermark_reported(execution, &report);
                }
            }
            Some(Message::Register(_)) | None => {}
        }
        self.grant(now_ms);
    }
}

/// The attempt that a message is about.
fn attempt(from: &TaskManagerId, attempt: Option<&ExecutionAttempt>) -> Option<ExecutionId> {
    let id = attempt.and_then(|attempt| execution_id(attempt).ok());
    if id.is_none() {
        tracing::error!(task_manager = %from, ?attempt, "a message about a malformed attempt was dropped");
    }
    id
}
