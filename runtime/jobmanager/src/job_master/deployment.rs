//! The job's worker processes: what they are started with, and how often a start was tried.
//!
//! Invariants: all workers of a job have one exchange token, since each refuses those with another: a worker gets that of those that are
//! there; while the job's package is still on its way, none is started.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::Message as _;
use thalweg_graph::execution::execution_attempt;
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::{
    CancelTasks, DeployTasks, ReleaseSlots, RunningWorker, StartWorker, StopWorker, TaskDeployment,
};
use thalweg_proto::graph::v1::{JobGraph, StreamGraph};
use thalweg_types::{ExecutionId, Failure, FailureClass, TaskManagerId};

use crate::dispatcher::Submission;
use crate::package::Package;

/// How often a worker is started before its failure is the job's.
const START_ATTEMPTS: u32 = 4;
/// Of the tasks in one command, unless a single one is larger.
const DEPLOY_BYTES: usize = 8 << 20;
/// Before the second start; doubled before each further one.
const FIRST_PAUSE_MS: u64 = 250;

/// What a failed worker leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StartOutcome {
    /// It is started again after so many milliseconds.
    TryAgain(u64),
    /// The job finds out.
    Failed,
}

#[derive(Debug)]
struct Worker {
    generation: u64,
    slots: Vec<u32>,
    exchange_token: String,
    /// 0 = it was ready once.
    attempt: u32,
}

/// The job's workers by TaskManager.
pub(super) struct Workers {
    job_id: String,
    /// Let go when the job has ended.
    package: Option<Arc<Package>>,
    /// The package is on its way.
    awaits_package: bool,
    stream_graph: StreamGraph,
    arguments: Vec<String>,
    environment: HashMap<String, String>,
    /// Of a worker that is the first.
    own_token: String,
    workers: BTreeMap<TaskManagerId, Worker>,
}

impl Workers {
    pub(super) fn new(submission: Submission) -> Self {
        Self {
            job_id: submission.job_id.to_string(),
            awaits_package: submission.package.is_none() && submission.package_follows,
            package: submission.package,
            stream_graph: submission.extracted.stream_graph,
            arguments: submission.extracted.arguments,
            environment: submission.extracted.environment.into_iter().collect(),
            own_token: hex::encode(rand::random::<[u8; 16]>()),
            workers: BTreeMap::new(),
        }
    }

    /// The command, unless the package is still to come: then [`Workers::package_is_here`] gives it.
    pub(super) fn start(
        &mut self,
        task_manager: &TaskManagerId,
        generation: u64,
        slots: Vec<u32>,
        job_graph: &JobGraph,
    ) -> Option<Box<Command>> {
        // Of the one whose place it takes, too: the others have it.
        let known = self
            .workers
            .values()
            .filter(|worker| !worker.exchange_token.is_empty());
        let newest = known.max_by_key(|worker| worker.generation);
        let exchange_token = newest.map_or(&self.own_token, |newest| &newest.exchange_token);
        let worker = Worker {
            generation,
            slots,
            exchange_token: exchange_token.clone(),
            attempt: 1,
        };
        let command = (!self.awaits_package).then(|| self.command(&worker, job_graph));
        self.workers.insert(task_manager.clone(), worker);
        command
    }

    /// What could not be started without the package, and is still wanted.
    pub(super) fn package_is_here(
        &mut self,
        package: Arc<Package>,
        job_graph: &JobGraph,
    ) -> Vec<(TaskManagerId, u64, Box<Command>)> {
        if !std::mem::take(&mut self.awaits_package) {
            return Vec::new();
        }
        self.package = Some(package);
        let starting = self.workers.iter().filter(|(_, worker)| worker.attempt > 0);
        let start = |(at, worker): (&TaskManagerId, &Worker)| {
            (at.clone(), worker.generation, self.command(worker, job_graph))
        };
        starting.map(start).collect()
    }

    /// A worker that an earlier leader started, and that goes on.
    pub(super) fn adopt(&mut self, task_manager: &TaskManagerId, running: &RunningWorker) {
        let worker = Worker {
            generation: running.worker_generation,
            slots: running.slots.clone(),
            exchange_token: running.exchange_token.clone(),
            attempt: 0,
        };
        self.workers.insert(task_manager.clone(), worker);
    }

    /// The job gives slots back: a worker that has some of them and stays is told, or they would be its for ever.
    pub(super) fn release(&mut self, task_manager: &TaskManagerId, slots: &[u32]) -> Option<Box<Command>> {
        let worker = self.workers.get_mut(task_manager)?;
        if !worker.slots.iter().any(|slot| slots.contains(slot)) {
            return None;
        }
        worker.slots.retain(|slot| !slots.contains(slot));
        Some(Box::new(Command::ReleaseSlots(ReleaseSlots {
            job_id: self.job_id.clone(),
            worker_generation: worker.generation,
            slots: slots.to_vec(),
        })))
    }

    fn command(&self, worker: &Worker, job_graph: &JobGraph) -> Box<Command> {
        let package = self.package.as_deref();
        Box::new(Command::StartWorker(StartWorker {
            job_id: self.job_id.clone(),
            worker_generation: worker.generation,
            job_name: job_graph.job_name.clone(),
            package_sha256: package.map(|package| package.sha256.clone()).unwrap_or_default(),
            package_size: package.map_or(0, |package| package.size),
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            slots: worker.slots.clone(),
            stream_graph: Some(self.stream_graph.clone()),
            job_graph: Some(job_graph.clone()),
            entry_path: package
                .map(|package| package.manifest.entry.path.clone())
                .unwrap_or_default(),
            exchange_token: worker.exchange_token.clone(),
            entry_kind: package
                .map(|package| package.manifest.entry.kind.as_str().to_owned())
                .unwrap_or_default(),
            entry_program: package
                .and_then(|package| package.manifest.entry.program.clone())
                .unwrap_or_default(),
        }))
    }

    fn get_mut(&mut self, task_manager: &TaskManagerId, generation: u64) -> Option<&mut Worker> {
        self.workers
            .get_mut(task_manager)
            .filter(|worker| worker.generation == generation)
    }

    pub(super) fn ready(&mut self, task_manager: &TaskManagerId, generation: u64) {
        if let Some(worker) = self.get_mut(task_manager, generation) {
            worker.attempt = 0;
        }
    }

    pub(super) fn is_starting(&self, task_manager: &TaskManagerId, generation: u64) -> bool {
        let worker = self.workers.get(task_manager);
        worker.is_some_and(|worker| worker.generation == generation && worker.attempt > 0)
    }

    /// A worker that never was ready, and may yet be, is worth another start.
    pub(super) fn failed(
        &mut self,
        task_manager: &TaskManagerId,
        generation: u64,
        failure: &Failure,
    ) -> StartOutcome {
        let Some(worker) = self.get_mut(task_manager, generation) else {
            return StartOutcome::Failed;
        };
        let again = failure.class == FailureClass::Retryable && (1..START_ATTEMPTS).contains(&worker.attempt);
        if again {
            worker.attempt += 1;
            StartOutcome::TryAgain(FIRST_PAUSE_MS << (worker.attempt - 2))
        } else {
            self.workers.remove(task_manager);
            StartOutcome::Failed
        }
    }

    /// The same start again, unless the worker is not wanted any more.
    pub(super) fn start_again(
        &self,
        task_manager: &TaskManagerId,
        generation: u64,
        job_graph: &JobGraph,
    ) -> Option<Box<Command>> {
        if !self.is_starting(task_manager, generation) {
            return None;
        }
        self.workers
            .get(task_manager)
            .map(|worker| self.command(worker, job_graph))
    }

    /// Ends the worker of whatever generation; nothing if there is none.
    pub(super) fn stop(&mut self, task_manager: &TaskManagerId) -> Option<(u64, Box<Command>)> {
        let generation = self.workers.get(task_manager)?.generation;
        Some((generation, self.stop_generation(task_manager, generation)))
    }

    pub(super) fn stop_generation(&mut self, task_manager: &TaskManagerId, generation: u64) -> Box<Command> {
        if self
            .workers
            .get(task_manager)
            .is_some_and(|worker| worker.generation <= generation)
        {
            self.workers.remove(task_manager);
        }
        Box::new(Command::StopWorker(StopWorker {
            job_id: self.job_id.clone(),
            worker_generation: generation,
        }))
    }

    pub(super) fn forget(&mut self, task_manager: &TaskManagerId) {
        self.workers.remove(task_manager);
    }

    /// The job has ended: its package may go, its graph is the JobGraph.
    pub(super) fn let_go(&mut self) {
        self.package = None;
        self.awaits_package = false;
        self.stream_graph = StreamGraph::default();
        self.workers.clear();
    }
}

/// Tasks in their order, in commands that are not too large to be sent: what a task restores may be much.
pub(super) fn deploy(tasks: Vec<TaskDeployment>) -> impl Iterator<Item = Box<Command>> {
    let mut commands: Vec<Vec<TaskDeployment>> = Vec::new();
    let mut room = 0;
    for task in tasks {
        let size = task.encoded_len();
        match commands.last_mut() {
            Some(command) if size <= room => {
                room -= size;
                command.push(task);
            }
            _ => {
                room = DEPLOY_BYTES.saturating_sub(size);
                commands.push(vec![task]);
            }
        }
    }
    let command = |tasks| Box::new(Command::Deploy(DeployTasks { tasks }));
    commands.into_iter().map(command)
}

pub(super) fn cancel(executions: &[ExecutionId]) -> Box<Command> {
    let executions = executions.iter().map(|id| execution_attempt(*id)).collect();
    Box::new(Command::Cancel(CancelTasks { executions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployments_that_are_too_much_for_one_message_go_in_several_in_their_order() {
        let task = |slot: u32, size: usize| TaskDeployment {
            slot,
            configuration: HashMap::from([("k".to_owned(), "v".repeat(size))]),
            ..TaskDeployment::default()
        };
        let tasks = vec![
            task(1, 3 << 20),
            task(2, 3 << 20),
            task(3, 3 << 20),
            task(4, 9 << 20),
            task(5, 1),
        ];
        let slots: Vec<Vec<u32>> = deploy(tasks)
            .map(|command| match *command {
                Command::Deploy(deploy) => deploy.tasks.iter().map(|task| task.slot).collect(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(slots, [vec![1, 2], vec![3], vec![4], vec![5]]);
    }
}
