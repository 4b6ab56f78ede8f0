//! The TaskManager's decisions: one task that owns slots and workers and handles one event at a time.
//!
//! ```text
//!   Absent --StartWorker--> Launching --process up, hello--> Connected --StopWorker / end--> Absent
//!                               \--------- any failure: WorkerFailed, slots freed ---------/
//! ```

mod supervised;
mod tasks;
mod unheard;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_proto::control::v1::{
    self as control, ExecutionAttempt, JobManagerCommand, RunningWorker, StartWorker, TaskManagerHeartbeat,
    TaskManagerMessage, TaskMetrics, WorkerCommand, WorkerFailed, WorkerHello, WorkerReady,
    job_manager_command, task_manager_message, worker_command, worker_message,
};
use thalweg_types::{Failure, FailureClass, JobId};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tonic::transport::Channel;

use supervised::{Worker, accept};
use tasks::Tasks;
pub(crate) use unheard::Unheard;

use crate::launcher::Launcher;
use crate::memory::{MemoryBudget, resident_bytes};
use crate::slots::SlotTable;
use crate::worker::{WorkerEnd, describe_end, kill};

/// One worker process: its job, and which of the job's workers here it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WorkerKey {
    pub(crate) job: JobId,
    pub(crate) generation: u64,
}

/// What the actor is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A JobManager is about to be told what runs here.
    Registering {
        answer: oneshot::Sender<Vec<RunningWorker>>,
    },
    /// A JobManager took this TaskManager in.
    Connected {
        epoch: u64,
        messages: mpsc::Sender<TaskManagerMessage>,
        client: JobManagerClient<Channel>,
        /// Ends the connection: its JobManager takes no messages.
        give_up: Arc<Notify>,
    },
    /// The stream to the JobManager is gone.
    Disconnected,
    /// From the JobManager.
    Command(Box<JobManagerCommand>),
    /// The process of a worker runs.
    WorkerStarted { worker: WorkerKey, pid: u32 },
    /// A worker could not be started.
    WorkerLaunchFailed { worker: WorkerKey, failure: Failure },
    /// A worker dialed in.
    WorkerConnected {
        worker: WorkerKey,
        hello: Box<WorkerHello>,
        commands: mpsc::Sender<WorkerCommand>,
    },
    /// From a worker.
    WorkerMessage {
        worker: WorkerKey,
        message: Box<worker_message::Message>,
    },
    /// A worker's process is gone.
    WorkerEnded { worker: WorkerKey, end: WorkerEnd },
    /// Time to look at memory and time-outs.
    Tick,
    /// End all workers and stop.
    Shutdown,
}

/// What metrics read of a job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) jobs: Vec<JobSnapshot>,
    pub(crate) slots_total: u32,
    pub(crate) slots_free: u32,
    pub(crate) connected: bool,
}

/// The newest of one job's worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobSnapshot {
    pub(crate) job_id: String,
    pub(crate) job_name: String,
    pub(crate) allocated_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) tasks: Vec<TaskMetrics>,
}

pub(crate) struct Actor {
    pub(crate) host: String,
    pub(crate) memory: MemoryBudget,
    pub(crate) slots_total: u32,
    pub(crate) slots: SlotTable,
    pub(crate) launcher: Launcher,
    pub(crate) worker_start_timeout: Duration,
    pub(crate) job_manager_timeout: Duration,
    pub(crate) snapshot: watch::Sender<Snapshot>,
    pub(crate) connection: Option<Connection>,
    pub(crate) disconnected_since: Instant,
    pub(crate) epoch: u64,
    pub(crate) workers: Workers,
    pub(crate) unheard: Unheard,
}

/// The stream to the leading JobManager.
pub(crate) struct Connection {
    messages: mpsc::Sender<TaskManagerMessage>,
    client: JobManagerClient<Channel>,
    give_up: Arc<Notify>,
}

/// The workers by job.
#[derive(Default)]
pub(crate) struct Workers(BTreeMap<JobId, Worker>);

impl Actor {
    /// Handles events until it is told to stop or nobody is left to tell it.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            if matches!(event, Event::Shutdown) {
                break;
            }
            self.handle(event);
            self.publish();
        }
        for worker in self.workers.0.values().filter_map(|worker| worker.pid) {
            kill(worker);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Registering { answer } => {
                let mut workers = self.unheard.report();
                workers.extend(self.workers.0.values().map(Worker::running));
                // Whoever asked may have given up.
                answer.send(workers).ok();
            }
            Event::Connected {
                epoch,
                messages,
                client,
                give_up,
            } => self.connected(
                epoch,
                Connection {
                    messages,
                    client,
                    give_up,
                },
            ),
            Event::Disconnected => {
                self.connection = None;
                self.disconnected_since = Instant::now();
            }
            Event::Command(command) if command.epoch < self.epoch => {
                tracing::warn!(
                    epoch = command.epoch,
                    leader = self.epoch,
                    "a command of an earlier leader was dropped"
                );
            }
            Event::Command(command) => self.command(*command),
            Event::WorkerStarted { worker, pid } => self.worker_started(worker, pid),
            Event::WorkerLaunchFailed { worker, failure } => self.worker_gone(worker, &failure),
            Event::WorkerConnected {
                worker,
                hello,
                commands,
            } => {
                self.worker_connected(worker, &hello, commands);
            }
            Event::WorkerMessage { worker, message } => self.worker_message(worker, *message),
            Event::WorkerEnded { worker, end } => self.worker_ended(worker, &end),
            Event::Tick => self.tick(),
            Event::Shutdown => {}
        }
    }

    fn connected(&mut self, epoch: u64, connection: Connection) {
        self.epoch = epoch;
        let Some(messages) = self.unheard.heard() else {
            // It does not know enough: the next registration tells it all.
            connection.give_up.notify_one();
            return;
        };
        self.connection = Some(connection);
        for message in messages {
            self.report(message);
        }
    }

    fn command(&mut self, command: JobManagerCommand) {
        use job_manager_command::Command;
        self.epoch = command.epoch;
        match command.command {
            Some(Command::StartWorker(start)) => self.start_worker(Box::new(start)),
            Some(Command::StopWorker(stop)) => self.stop_worker(&stop.job_id, stop.worker_generation),
            Some(Command::ReleaseJob(release)) => self.release_job(&release.job_id),
            Some(Command::ReleaseSlots(release)) => self.release_slots(&release),
            Some(Command::Deploy(deploy)) => self.deploy(deploy),
            Some(Command::Cancel(cancel)) => self.cancel(cancel),
            Some(Command::TriggerCheckpoint(trigger)) => {
                let execution = trigger.executions.first();
                if let Some(worker) = execution.and_then(|execution| self.workers.of_execution(execution)) {
                    worker.tasks.triggered(&trigger);
                    worker.send(worker_command::Command::TriggerCheckpoint(trigger));
                }
            }
            Some(Command::NotifyCheckpoint(notify)) => {
                let command = worker_command::Command::NotifyCheckpoint;
                self.send_to_worker_of(notify.executions.first().cloned(), command(notify));
            }
            Some(Command::AlignWatermarks(align)) => {
                let command = worker_command::Command::AlignWatermarks;
                self.send_to_worker_of(align.executions.first().cloned(), command(align));
            }
            Some(Command::Heartbeat(request)) => self.heartbeat(request.sent_at_ms),
            Some(Command::Registered(_) | Command::Refused(_)) | None => {}
        }
    }

    fn start_worker(&mut self, start: Box<StartWorker>) {
        let Ok(job) = start.job_id.parse::<JobId>() else {
            tracing::error!(
                job_id = start.job_id,
                "a worker of a malformed job id was asked for"
            );
            return;
        };
        let key = WorkerKey {
            job,
            generation: start.worker_generation,
        };
        if let Some(worker) = self.workers.0.get_mut(&job) {
            if worker.key.generation >= key.generation {
                return;
            }
            if let Some(pid) = worker.pid {
                kill(pid);
            }
            self.launcher.expected.forget(worker.key);
            self.workers.0.remove(&job);
            self.slots.free(job);
        }
        if let Err(error) = self.slots.allocate(job, &start.slots) {
            let failure = Failure::new(FailureClass::Retryable, error.to_string());
            self.report_worker_failed(key, &failure);
            return;
        }
        self.unheard.forget(job);
        let budget = self.memory.worker(start.slots.len());
        let Some(connection) = &self.connection else {
            return;
        };
        let others = self
            .workers
            .0
            .iter()
            .map(|(job, worker)| (*job, worker.start.slots.len()));
        let workers = others.chain([(job, start.slots.len())]).collect();
        self.launcher
            .launch(key, &start, budget, workers, connection.client.clone());
        let worker = Worker {
            key,
            start,
            budget,
            pid: None,
            commands: None,
            data_address: String::new(),
            tasks: Tasks::default(),
            metrics: Vec::new(),
            allocated: 0,
            since: Instant::now(),
            killed_for: None,
            stopped: false,
        };
        self.workers.0.insert(job, worker);
    }

    fn stop_worker(&mut self, job: &str, generation: u64) {
        let Some(worker) = job
            .parse()
            .ok()
            .and_then(|job: JobId| self.workers.0.get_mut(&job))
        else {
            return;
        };
        if worker.key.generation <= generation {
            worker.stopped = true;
            worker.end(Failure::new(FailureClass::Retryable, "stopped by the JobManager"));
            // A killed process is as good as gone: the next job need not wait for the kernel.
            let key = worker.key;
            self.forget(key);
        }
    }

    /// Its worker goes on in fewer slots; the memory that it was started with stays its own.
    fn release_slots(&mut self, release: &control::ReleaseSlots) {
        let Ok(job) = release.job_id.parse::<JobId>() else {
            tracing::error!(
                job_id = release.job_id,
                "slots of a malformed job id were released"
            );
            return;
        };
        let generation = release.worker_generation;
        let key = WorkerKey { job, generation };
        if let Some(worker) = self.workers.get(key) {
            worker.start.slots.retain(|slot| !release.slots.contains(slot));
            self.slots.release(job, &release.slots);
        }
    }

    /// Its worker was stopped before, if it had one here.
    fn release_job(&mut self, job: &str) {
        match job.parse() {
            Ok(job) => {
                self.unheard.forget(job);
                let local_state = self.launcher.local_state.clone();
                tokio::task::spawn_blocking(move || local_state.release(job));
            }
            Err(_) => tracing::error!(job_id = job, "a job of a malformed id was said to have ended"),
        }
    }

    /// The tasks of one worker go in one command, however many they are.
    fn deploy(&mut self, deploy: control::DeployTasks) {
        let mut of_workers: BTreeMap<String, Vec<control::TaskDeployment>> = BTreeMap::new();
        for task in deploy.tasks {
            if let Some(execution) = &task.execution
                && let Some(worker) = self.workers.of_execution(execution)
            {
                worker.tasks.deployed(&task);
                of_workers.entry(execution.job_id.clone()).or_default().push(task);
            }
        }
        for tasks in of_workers.into_values() {
            let execution = tasks.first().and_then(|task| task.execution.clone());
            let deploy = control::DeployTasks { tasks };
            self.send_to_worker_of(execution, worker_command::Command::Deploy(deploy));
        }
    }

    fn cancel(&mut self, cancel: control::CancelTasks) {
        let mut of_workers: BTreeMap<String, Vec<ExecutionAttempt>> = BTreeMap::new();
        for execution in cancel.executions {
            of_workers
                .entry(execution.job_id.clone())
                .or_default()
                .push(execution);
        }
        for executions in of_workers.into_values() {
            let first = executions.first().cloned();
            let cancel = control::CancelTasks { executions };
            self.send_to_worker_of(first, worker_command::Command::Cancel(cancel));
        }
    }

    /// A command names tasks of one job only.
    fn send_to_worker_of(&mut self, execution: Option<ExecutionAttempt>, command: worker_command::Command) {
        if let Some(worker) = execution.and_then(|execution| self.workers.of_execution(&execution)) {
            worker.send(command);
        }
    }

    fn heartbeat(&mut self, sent_at_ms: u64) {
        let own = resident_bytes(std::process::id()).unwrap_or(0);
        let allocated: u64 = self.workers.0.values().map(|worker| worker.allocated).sum();
        let tasks = self
            .workers
            .0
            .values()
            .flat_map(|worker| worker.metrics.iter().cloned())
            .collect();
        let heartbeat = TaskManagerHeartbeat {
            sent_at_ms,
            memory_used_bytes: own + allocated,
            tasks,
        };
        self.report(task_manager_message::Message::Heartbeat(heartbeat));
    }

    fn worker_started(&mut self, key: WorkerKey, pid: u32) {
        match self.workers.get(key) {
            Some(worker) if worker.killed_for.is_none() => worker.pid = Some(pid),
            _ => kill(pid),
        }
    }

    fn worker_connected(
        &mut self,
        key: WorkerKey,
        hello: &WorkerHello,
        commands: mpsc::Sender<WorkerCommand>,
    ) {
        let Some(worker) = self.workers.get(key) else {
            return;
        };
        if let Err(failure) = accept(&worker.start, hello) {
            worker.end(failure);
            return;
        }
        worker.commands = Some(commands);
        if hello.data_port == 0 {
            // Its data port could not be opened: why follows.
            return;
        }
        worker.data_address = format!("{}:{}", self.host, hello.data_port);
        let ready = WorkerReady {
            job_id: key.job.to_string(),
            worker_generation: key.generation,
            data_address: worker.data_address.clone(),
        };
        self.report(task_manager_message::Message::WorkerReady(ready));
    }

    fn worker_message(&mut self, key: WorkerKey, message: worker_message::Message) {
        let Some(worker) = self.workers.get(key) else {
            return;
        };
        match message {
            worker_message::Message::TaskState(update) => {
                worker.tasks.told(&update);
                self.report(task_manager_message::Message::TaskState(update));
            }
            worker_message::Message::Heartbeat(heartbeat) => {
                worker.allocated = heartbeat.allocated_bytes;
                worker.metrics = heartbeat.tasks;
            }
            worker_message::Message::AcknowledgeCheckpoint(acknowledge) => {
                worker.tasks.acknowledged(&acknowledge);
                self.report(task_manager_message::Message::AcknowledgeCheckpoint(acknowledge));
            }
            worker_message::Message::DeclineCheckpoint(decline) => {
                self.report(task_manager_message::Message::DeclineCheckpoint(decline));
            }
            worker_message::Message::ReportWatermark(report) => {
                self.report(task_manager_message::Message::ReportWatermark(report));
            }
            worker_message::Message::Failed(failure) => worker.end(failure_from_proto(failure)),
            worker_message::Message::Hello(_) => {}
        }
    }

    fn worker_ended(&mut self, key: WorkerKey, end: &WorkerEnd) {
        let Some(worker) = self.workers.get(key) else {
            return;
        };
        let failure = match worker.killed_for.take() {
            Some(failure) => Failure {
                detail: end.last_lines.join("\n"),
                ..failure
            },
            None => describe_end(end, worker.budget, None),
        };
        self.worker_gone(key, &failure);
    }

    /// Frees what the worker held; tells the JobManager unless it asked for it.
    fn worker_gone(&mut self, key: WorkerKey, failure: &Failure) {
        let Some(worker) = self.workers.get(key) else {
            return;
        };
        let (stopped, running) = (worker.stopped, worker.running());
        self.forget(key);
        if stopped {
            return;
        }
        if self.connection.is_none() {
            self.unheard.ended(key.job, running);
        }
        self.report_worker_failed(key, failure);
    }

    fn forget(&mut self, key: WorkerKey) {
        self.launcher.expected.forget(key);
        self.workers.0.remove(&key.job);
        self.slots.free(key.job);
    }

    fn tick(&mut self) {
        let orphaned =
            self.connection.is_none() && self.disconnected_since.elapsed() > self.job_manager_timeout;
        for worker in self.workers.0.values_mut() {
            if orphaned {
                worker.stopped = true;
                worker.end(Failure::new(FailureClass::Retryable, "the JobManager is gone"));
            } else if worker.commands.is_none()
                && worker.pid.is_some()
                && worker.since.elapsed() > self.worker_start_timeout
            {
                let message = format!(
                    "the worker process did not come up within {} s",
                    self.worker_start_timeout.as_secs()
                );
                worker.end(Failure::new(FailureClass::Retryable, message));
            } else {
                worker.check_memory();
            }
        }
    }

    fn report_worker_failed(&mut self, key: WorkerKey, failure: &Failure) {
        let failed = WorkerFailed {
            job_id: key.job.to_string(),
            worker_generation: key.generation,
            failure: Some(failure_to_proto(failure)),
        };
        tracing::warn!(job_id = failed.job_id, reason = failure.message, "worker failed");
        self.report(task_manager_message::Message::WorkerFailed(failed));
    }

    /// Sends to the leader; without one, the next registration tells the same.
    /// Never waits: a JobManager that lets messages pile up is given up, and learns the state of things when it is dialed again.
    fn report(&mut self, message: task_manager_message::Message) {
        let Some(connection) = &self.connection else {
            self.unheard.keep(message);
            return;
        };
        let message = TaskManagerMessage {
            epoch: self.epoch,
            message: Some(message),
        };
        match connection.messages.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => {
                tracing::debug!("the JobManager's stream is closed");
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                connection.give_up.notify_one();
                self.connection = None;
            }
        }
    }

    fn publish(&self) {
        let by_job = self.slots.by_job();
        let taken: usize = by_job.values().map(Vec::len).sum();
        let jobs = self.workers.0.values().map(Worker::snapshot).collect();
        self.snapshot.send_replace(Snapshot {
            jobs,
            slots_total: self.slots_total,
            slots_free: self.slots_total - taken as u32,
            connected: self.connection.is_some(),
        });
    }
}

impl Workers {
    fn get(&mut self, key: WorkerKey) -> Option<&mut Worker> {
        self.0.get_mut(&key.job).filter(|worker| worker.key == key)
    }

    fn of_execution(&mut self, execution: &ExecutionAttempt) -> Option<&mut Worker> {
        let worker = execution
            .job_id
            .parse()
            .ok()
            .and_then(|job: JobId| self.0.get_mut(&job));
        if worker.is_none() {
            tracing::warn!(
                job_id = execution.job_id,
                "a task of a job without a worker here was named"
            );
        }
        worker
    }
}

fn failure_to_proto(failure: &Failure) -> control::Failure {
    let class = match failure.class {
        FailureClass::Retryable => control::FailureClass::Retryable,
        FailureClass::Fatal => control::FailureClass::Fatal,
        FailureClass::Bug => control::FailureClass::Bug,
    };
    control::Failure {
        class: class.into(),
        message: failure.message.clone(),
        detail: failure.detail.clone(),
    }
}

fn failure_from_proto(failure: control::Failure) -> Failure {
    let class = match failure.class() {
        control::FailureClass::Fatal => FailureClass::Fatal,
        control::FailureClass::Bug => FailureClass::Bug,
        control::FailureClass::Retryable | control::FailureClass::Unspecified => FailureClass::Retryable,
    };
    Failure {
        class,
        message: failure.message,
        detail: failure.detail,
    }
}
