//! One worker as the actor sees it: what it was started for, how far it is, what it told.

use std::time::Instant;

use thalweg_proto::control::v1::{
    RunningWorker, StartWorker, TaskMetrics, WorkerCommand, WorkerHello, worker_command,
};
use thalweg_types::{Failure, FailureClass};
use tokio::sync::mpsc;

use super::tasks::Tasks;
use super::{JobSnapshot, WorkerKey};
use crate::memory::{MemoryBudget, resident_bytes};
use crate::worker::kill;

pub(super) struct Worker {
    pub(super) key: WorkerKey,
    pub(super) start: Box<StartWorker>,
    pub(super) budget: u64,
    pub(super) pid: Option<u32>,
    pub(super) commands: Option<mpsc::Sender<WorkerCommand>>,
    pub(super) data_address: String,
    pub(super) tasks: Tasks,
    pub(super) metrics: Vec<TaskMetrics>,
    pub(super) allocated: u64,
    pub(super) since: Instant,
    /// Why we ended it; its process's end is then no surprise.
    pub(super) killed_for: Option<Failure>,
    /// Asked for by the JobManager: its end is not reported.
    pub(super) stopped: bool,
}

impl Worker {
    pub(super) fn send(&mut self, command: worker_command::Command) {
        let sent = self.commands.as_ref().map(|commands| {
            commands.try_send(WorkerCommand {
                command: Some(command),
            })
        });
        match sent {
            Some(Ok(())) => {}
            Some(Err(_)) => self.end(Failure::new(
                FailureClass::Retryable,
                "the worker process takes no commands",
            )),
            // The JobMaster waits for WorkerReady.
            None => self.end(Failure::new(
                FailureClass::Bug,
                "the JobManager sent a command before the worker was ready",
            )),
        }
    }

    pub(super) fn end(&mut self, reason: Failure) {
        if self.killed_for.is_none() {
            self.killed_for = Some(reason);
            if let Some(pid) = self.pid {
                kill(pid);
            }
        }
    }

    pub(super) fn check_memory(&mut self) {
        let limit = MemoryBudget::watchdog_limit(self.budget);
        let Some(resident) = self
            .pid
            .and_then(resident_bytes)
            .filter(|resident| *resident > limit)
        else {
            return;
        };
        let message = format!(
            "the worker process holds {resident} bytes, over its memory budget of {} bytes, and was stopped; \
             raise taskmanager.memory.process.size or lower what the job keeps in memory",
            self.budget
        );
        self.end(Failure::new(FailureClass::Retryable, message));
    }

    /// As the next JobManager has to know it.
    pub(super) fn running(&self) -> RunningWorker {
        let mut running = RunningWorker {
            job_id: self.key.job.to_string(),
            package_sha256: self.start.package_sha256.clone(),
            data_address: match self.killed_for {
                None => self.data_address.clone(),
                Some(_) => String::new(),
            },
            slots: self.start.slots.clone(),
            worker_generation: self.key.generation,
            exchange_token: self.start.exchange_token.clone(),
            ..RunningWorker::default()
        };
        self.tasks.describe(&mut running);
        running
    }

    pub(super) fn snapshot(&self) -> JobSnapshot {
        JobSnapshot {
            job_id: self.key.job.to_string(),
            job_name: self.start.job_name.clone(),
            allocated_bytes: self.allocated,
            budget_bytes: self.budget,
            tasks: self.metrics.clone(),
        }
    }
}

/// Whether the worker is what was asked for: the same protocol, the same graph.
pub(super) fn accept(start: &StartWorker, hello: &WorkerHello) -> Result<(), Failure> {
    if hello.protocol_version != thalweg_proto::WORKER_PROTOCOL_VERSION {
        return Err(Failure::new(
            FailureClass::Fatal,
            format!(
                "the package speaks worker protocol {}, this engine {}: build it against thalweg-api {}",
                hello.protocol_version,
                thalweg_proto::WORKER_PROTOCOL_VERSION,
                env!("CARGO_PKG_VERSION")
            ),
        ));
    }
    let (Some(expected), Some(actual)) = (&start.stream_graph, &hello.stream_graph) else {
        return Err(Failure::new(FailureClass::Bug, "a worker came without its graph"));
    };
    match thalweg_graph::first_difference(expected, actual) {
        None => Ok(()),
        Some(difference) => Err(Failure::new(
            FailureClass::Fatal,
            format!(
                "the worker built another graph than the one submitted: {difference}; \
                 main must build the same graph for the same arguments and environment"
            ),
        )),
    }
}
