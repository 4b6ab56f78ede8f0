//! Whole tasks in one process: programs by hand, real threads, real channels.

mod alignment;
mod chains;
mod checkpoints;
mod ends;
mod exchanges;
mod operators;

use std::sync::Arc;
use std::time::Duration;

use thalweg_proto::control::v1::{self as control, TaskState};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use super::*;

/// One process's worth of executor.
struct Process {
    executor: TaskExecutor,
    events: mpsc::Receiver<TaskEvent>,
    address: String,
    seen: Vec<TaskReport>,
    acknowledged: Vec<control::AcknowledgeCheckpoint>,
    declined: Vec<control::DeclineCheckpoint>,
    watermarks: Vec<control::ReportWatermark>,
    io: Arc<Runtime>,
}

fn io() -> Arc<Runtime> {
    Arc::new(
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap(),
    )
}

impl Process {
    fn start(program: JobProgram) -> Self {
        Self::start_on(&io(), program)
    }

    fn start_on(io: &Arc<Runtime>, program: JobProgram) -> Self {
        Self::start_with(io, program, ExecutorSettings::default())
    }

    fn start_with(io: &Arc<Runtime>, program: JobProgram, settings: ExecutorSettings) -> Self {
        let exchange = io.block_on(crate::testkit::exchange(io.handle()));
        let address = exchange.local_addr().to_string();
        let (executor, events) = TaskExecutor::new(program, exchange, io.handle().clone(), settings);
        Self {
            executor,
            events,
            address,
            seen: Vec::new(),
            acknowledged: Vec::new(),
            declined: Vec::new(),
            watermarks: Vec::new(),
            io: io.clone(),
        }
    }

    fn deploy(&self, deployments: &[control::TaskDeployment]) {
        for deployment in deployments {
            self.executor.deploy(deployment).unwrap();
        }
    }

    /// Takes reports until `count` tasks have ended.
    fn await_ends(&mut self, count: usize) -> Vec<TaskReport> {
        while self.ends().len() < count {
            self.take_report();
        }
        self.ends()
    }

    fn await_state(&mut self, state: TaskState) {
        while !self.seen.iter().any(|report| report.update.state() == state) {
            self.take_report();
        }
    }

    fn take_report(&mut self) {
        let next = async { tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await };
        match self.io.block_on(next).expect("no report came").unwrap() {
            TaskEvent::State(report) => self.seen.push(report),
            TaskEvent::Acknowledge(acknowledge) => self.acknowledged.push(acknowledge),
            TaskEvent::Decline(decline) => self.declined.push(decline),
            TaskEvent::Watermark(report) => self.watermarks.push(report),
        }
    }

    fn ends(&self) -> Vec<TaskReport> {
        self.seen
            .iter()
            .filter(|report| report.metrics.is_some())
            .cloned()
            .collect()
    }

    /// The states that one task went through.
    fn states(&self, attempt: &control::ExecutionAttempt) -> Vec<TaskState> {
        let of_task = self
            .seen
            .iter()
            .filter(|report| report.update.execution.as_ref() == Some(attempt));
        of_task.map(|report| report.update.state()).collect()
    }
}

fn end_states(ends: &[TaskReport]) -> Vec<TaskState> {
    ends.iter().map(|report| report.update.state()).collect()
}

/// The only end's failure.
fn failure(ends: &[TaskReport]) -> control::Failure {
    assert_eq!(end_states(ends), [TaskState::Failed]);
    ends[0].update.failure.clone().unwrap()
}
