//! A TaskManager with its worker processes: it follows the leader of the highest epoch and runs what that deploys.
//!
//! ```text
//!   ask every JobManager who leads --> highest epoch: connect, register with what runs here --> Registered
//!        ^ each second                       | commands of a lower epoch are dropped              commands
//!        '-- silent, closed -----------------'
//! ```
//!
//! Without a JobManager its workers go on for a while. What tasks report meanwhile is not lost: a registration has it.

use std::collections::BTreeMap;

use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::task_manager_message::Message;
use thalweg_proto::control::v1::{
    ExecutionAttempt, Failure, FailureClass, JobManagerCommand, RegisterTaskManager, RunningTask,
    RunningWorker, StartWorker, TaskManagerHeartbeat, TaskManagerMessage, TaskState, TaskStateUpdate,
    WorkerFailed, WorkerReady,
};
use thalweg_proto::state::v1::TaskSnapshot;

use crate::shared::{Input, Process, Shared, Timer};
use crate::steps::Step;
use crate::store::{Answer, Content, StoreError};
use crate::task::{Mail, Said, Task, TaskKey};

const WATCH_MS: u64 = 1_000;
const RECONNECT_MS: u64 = 150;
/// A JobManager that is silent for so long is lost; as `heartbeat.timeout` of the world's configuration.
const SILENCE_MS: u64 = 5_000;
/// So long workers go on without one.
const ORPHANED_MS: u64 = 60_000;
/// Tasks at whose deployment the whole process is held up.
const HELD_UP_PER_MILLE: u64 = 15;

struct Connection {
    id: u64,
    job_manager: usize,
    /// 0 until it is registered.
    epoch: u64,
    heard_ms: u64,
    /// What happened since the report with which it registers.
    unheard: Vec<Message>,
}

struct Worker {
    start: StartWorker,
    /// Of its data port; no other worker ever has it.
    address: String,
    ready: bool,
    tasks: BTreeMap<TaskKey, Task>,
    /// The savepoint to stop with that came last, and whether event time ends before it; nothing was deployed since.
    stop: Option<(u64, bool)>,
    /// Of the newest attempt of each subtask that has ended.
    ended: BTreeMap<(String, u32), (TaskStateUpdate, RunningTask)>,
    newest_checkpoint: u64,
}

/// See the module.
pub(crate) struct TaskManager {
    index: usize,
    process: Process,
    slots: u32,
    job_managers: usize,
    connection: Option<Connection>,
    /// The highest seen.
    epoch: u64,
    without_since_ms: u64,
    workers: BTreeMap<String, Worker>,
    asked: BTreeMap<u64, TaskKey>,
    next_ticket: u64,
}

impl TaskManager {
    pub(crate) fn new(index: usize, slots: u32, job_managers: usize) -> Self {
        Self {
            index,
            process: Process::TaskManager(index),
            slots,
            job_managers,
            connection: None,
            epoch: 0,
            without_since_ms: 0,
            workers: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    pub(crate) fn handle(&mut self, shared: &mut Shared, input: Input) {
        match input {
            Input::Start => {
                self.without_since_ms = shared.clock(self.process);
                let delay = shared.random.below(WATCH_MS);
                shared.after(delay, self.process, Input::Timer(Timer::Watch));
            }
            Input::Timer(Timer::Watch) => self.watch(shared),
            Input::Timer(Timer::WorkerUp(job, generation)) => self.worker_up(shared, &job, generation),
            Input::Timer(Timer::Begin(key)) => self.with_task(shared, &key, Task::initialize),
            Input::Timer(_) => {}
            Input::Told(job_manager, epoch) => self.told(shared, job_manager, epoch),
            Input::Commanded(connection, command) => self.commanded(shared, connection, *command),
            Input::Closed(connection) => {
                if self
                    .connection
                    .as_ref()
                    .is_some_and(|known| known.id == connection)
                {
                    self.lose(shared);
                }
            }
            Input::Stored(ticket, answer) => {
                if let Some(key) = self.asked.remove(&ticket) {
                    self.stored(shared, &key, answer);
                }
            }
            Input::Asked(_) | Input::Said(..) => {}
        }
    }

    // ---- the leader ----

    fn watch(&mut self, shared: &mut Shared) {
        shared.after(WATCH_MS, self.process, Input::Timer(Timer::Watch));
        for job_manager in 0..self.job_managers {
            shared.tell(
                self.process,
                Process::JobManager(job_manager),
                Input::Asked(self.process),
            );
        }
        let now_ms = shared.clock(self.process);
        if let Some(connection) = &self.connection
            && now_ms > connection.heard_ms + SILENCE_MS
        {
            shared.close(connection.id, false);
            self.lose(shared);
        }
        if self.connection.is_none() && now_ms > self.without_since_ms + ORPHANED_MS {
            let jobs: Vec<String> = self.workers.keys().cloned().collect();
            for job in jobs {
                self.end_worker(shared, &job);
            }
        }
    }

    fn lose(&mut self, shared: &mut Shared) {
        if self.connection.take().is_some() {
            self.without_since_ms = shared.clock(self.process);
        }
        // Whom to follow is asked soon, not only at the next watch.
        for job_manager in 0..self.job_managers {
            let asked = Input::Asked(self.process);
            if shared.reaches(self.process, Process::JobManager(job_manager)) {
                shared.after(RECONNECT_MS, Process::JobManager(job_manager), asked);
            }
        }
    }

    fn told(&mut self, shared: &mut Shared, job_manager: usize, epoch: u64) {
        if epoch == 0 || epoch < self.epoch {
            return;
        }
        match &self.connection {
            Some(connection) if connection.epoch == 0 || connection.epoch >= epoch => return,
            Some(connection) => {
                shared.step(
                    Step::FollowedLeader,
                    format_args!("{} epoch {epoch}", self.process),
                );
                shared.close(connection.id, false);
                self.connection = None;
                self.without_since_ms = shared.clock(self.process);
            }
            None => {}
        }
        self.register(shared, job_manager);
    }

    fn register(&mut self, shared: &mut Shared, job_manager: usize) {
        let Some(id) = shared.connect(self.index, job_manager) else {
            return;
        };
        self.connection = Some(Connection {
            id,
            job_manager,
            epoch: 0,
            heard_ms: shared.clock(self.process),
            unheard: Vec::new(),
        });
        let register = RegisterTaskManager {
            task_manager_id: format!("tm{}", self.index),
            host: format!("tm{}", self.index),
            slots: self.slots,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            cpu_cores: 1,
            memory_bytes: 1 << 30,
            slot_memory_bytes: 1 << 28,
            workers: self
                .workers
                .iter()
                .map(|(job, worker)| running(job, worker))
                .collect(),
        };
        for worker in &register.workers {
            shared.step(
                Step::RegisteredRunning,
                format_args!(
                    "{} {} in slots {:?}, generation {}",
                    self.process, worker.job_id, worker.slots, worker.worker_generation
                ),
            );
        }
        self.send(shared, Message::Register(register));
    }

    fn send(&mut self, shared: &mut Shared, message: Message) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if connection.epoch == 0 && !matches!(message, Message::Register(_)) {
            return connection.unheard.push(message);
        }
        let epoch = if connection.epoch == 0 {
            self.epoch
        } else {
            connection.epoch
        };
        let message = TaskManagerMessage {
            epoch,
            message: Some(message),
        };
        shared.send(connection.id, true, Input::Said(connection.id, Box::new(message)));
    }

    // ---- commands ----

    fn commanded(&mut self, shared: &mut Shared, id: u64, command: JobManagerCommand) {
        let now_ms = shared.clock(self.process);
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.id == id) else {
            return;
        };
        connection.heard_ms = now_ms;
        if command.epoch < self.epoch {
            shared.close(id, false);
            self.lose(shared);
            return;
        }
        self.epoch = command.epoch;
        match command.command {
            Some(Command::Registered(_)) => {
                connection.epoch = command.epoch;
                let job_manager = connection.job_manager;
                let unheard = std::mem::take(&mut connection.unheard);
                shared.step(
                    Step::Registered,
                    format_args!("{} at jm{job_manager} epoch {}", self.process, command.epoch),
                );
                for message in unheard {
                    self.send(shared, message);
                }
            }
            Some(Command::Refused(_)) => {
                shared.close(id, false);
                self.lose(shared);
            }
            Some(Command::Heartbeat(request)) => {
                let heartbeat = TaskManagerHeartbeat {
                    sent_at_ms: request.sent_at_ms,
                    ..TaskManagerHeartbeat::default()
                };
                self.send(shared, Message::Heartbeat(heartbeat));
            }
            Some(Command::StartWorker(start)) => self.start_worker(shared, start),
            Some(Command::StopWorker(stop)) => {
                let (job, generation) = (&stop.job_id, stop.worker_generation);
                shared.say_so(format_args!(
                    "{} {job} stop generation {generation}",
                    self.process
                ));
                let stops = |worker: &Worker| worker.start.worker_generation <= stop.worker_generation;
                if self.workers.get(&stop.job_id).is_some_and(stops) {
                    shared.step(
                        Step::RunningStopped,
                        format_args!("{} {}", self.process, stop.job_id),
                    );
                    self.end_worker(shared, &stop.job_id);
                }
            }
            Some(Command::Deploy(deploy)) => {
                for task in deploy.tasks {
                    let key = task.execution.as_ref().map(|execution| self.key(execution));
                    if let Some(task) = key.and_then(|key| Task::new(&task, &key.address)) {
                        self.deploy(shared, task);
                    }
                }
            }
            Some(Command::Cancel(cancel)) => {
                for execution in cancel.executions {
                    let key = self.key(&execution);
                    self.cancel(shared, &key);
                }
            }
            Some(Command::TriggerCheckpoint(trigger)) => {
                let options = trigger.options.unwrap_or_default();
                let of = trigger.executions.first();
                let worker = of.and_then(|of| self.workers.get_mut(&of.job_id));
                if let Some(worker) = worker.filter(|_| options.terminate) {
                    worker.stop = Some((trigger.checkpoint_id, options.drain));
                }
                for execution in trigger.executions {
                    let mail = Mail::Trigger(trigger.checkpoint_id, options.clone());
                    let key = self.key(&execution);
                    self.mail(&key, trigger.checkpoint_id, mail);
                }
            }
            Some(Command::NotifyCheckpoint(notify)) => {
                for execution in notify.executions {
                    let mail = Mail::Notify(notify.checkpoint_id, notify.completed);
                    let key = self.key(&execution);
                    self.mail(&key, notify.checkpoint_id, mail);
                }
            }
            Some(Command::ReleaseSlots(release)) => {
                let worker = self.workers.get_mut(&release.job_id);
                let is_meant =
                    |worker: &&mut Worker| worker.start.worker_generation == release.worker_generation;
                if let Some(worker) = worker.filter(is_meant) {
                    worker.start.slots.retain(|slot| !release.slots.contains(slot));
                }
            }
            Some(Command::AlignWatermarks(_) | Command::ReleaseJob(_)) | None => {}
        }
    }

    /// As the worker here knows it.
    fn key(&self, execution: &ExecutionAttempt) -> TaskKey {
        let worker = self.workers.get(&execution.job_id);
        let address = worker.map_or("", |worker| &worker.address);
        TaskKey::of(execution, address)
    }

    fn start_worker(&mut self, shared: &mut Shared, start: StartWorker) {
        let (job, generation) = (start.job_id.clone(), start.worker_generation);
        if let Some(known) = self.workers.get(&job) {
            if known.start.worker_generation >= generation {
                return;
            }
            self.end_worker(shared, &job);
        }
        let mut others = self.workers.values().flat_map(|worker| &worker.start.slots);
        shared.say_so(format_args!(
            "{} {job} asks for slots {:?}, generation {generation}",
            self.process, start.slots
        ));
        let taken = others.any(|slot| start.slots.contains(slot));
        if taken || shared.faulty && shared.random.per_mille(20) {
            return self.worker_failed(shared, &job, generation, "its slot is taken");
        }
        let address = format!("tm{}:{:x}", self.index, shared.random.next());
        let worker = Worker {
            start,
            address,
            ready: false,
            tasks: BTreeMap::new(),
            stop: None,
            ended: BTreeMap::new(),
            newest_checkpoint: 0,
        };
        self.workers.insert(job.clone(), worker);
        let delay = shared.random.between(10, 300);
        shared.after(
            delay,
            self.process,
            Input::Timer(Timer::WorkerUp(job, generation)),
        );
    }

    fn worker_up(&mut self, shared: &mut Shared, job: &str, generation: u64) {
        let Some(worker) = self.workers.get_mut(job) else {
            return;
        };
        if worker.start.worker_generation == generation && !worker.ready {
            worker.ready = true;
            shared.step(Step::WorkerReady, format_args!("{} {job}", self.process));
            let ready = ready(job, worker);
            self.send(shared, Message::WorkerReady(ready));
        }
    }

    fn worker_failed(&mut self, shared: &mut Shared, job: &str, generation: u64, why: &str) {
        shared.step(Step::WorkerFailed, format_args!("{} {job} {why}", self.process));
        let failed = WorkerFailed {
            job_id: job.to_owned(),
            worker_generation: generation,
            failure: Some(failure(why)),
        };
        self.send(shared, Message::WorkerFailed(failed));
    }

    /// A worker process dies.
    pub(crate) fn kill_worker(&mut self, shared: &mut Shared) {
        let place = shared.random.place(self.workers.len());
        if let Some((job, generation)) = self
            .workers
            .iter()
            .nth(place)
            .map(|(job, worker)| (job.clone(), worker.start.worker_generation))
        {
            self.end_worker(shared, &job);
            self.worker_failed(shared, &job, generation, "killed");
        }
    }

    fn end_worker(&mut self, shared: &mut Shared, job: &str) {
        if let Some(worker) = self.workers.remove(job) {
            for key in worker.tasks.keys() {
                shared.places.remove(key);
            }
        }
    }

    /// The process dies with all in it.
    pub(crate) fn end(&mut self, shared: &mut Shared) {
        let jobs: Vec<String> = self.workers.keys().cloned().collect();
        for job in jobs {
            self.end_worker(shared, &job);
        }
    }

    // ---- tasks ----

    fn deploy(&mut self, shared: &mut Shared, task: Task) {
        let Some(worker) = self.workers.get_mut(&task.key.job).filter(|worker| worker.ready) else {
            return;
        };
        shared.deployed += 1;
        let key = task.key.clone();
        let incarnation = shared.host(self.process).incarnation;
        shared.places.insert(key.clone(), (self.index, incarnation));
        worker.ended.remove(&(key.vertex.clone(), key.subtask));
        worker.stop = None;
        worker.newest_checkpoint = worker.newest_checkpoint.max(task.checkpoint);
        worker.tasks.insert(key.clone(), task);
        self.schedule(shared, &key);
        let delay = shared.random.between(1, 60);
        shared.after(delay, self.process, Input::Timer(Timer::Begin(key)));
        if shared.faulty && shared.random.per_mille(HELD_UP_PER_MILLE) {
            // Given up meanwhile, it begins beside whatever took its place.
            let for_ms = shared.random.between(6_000, 15_000);
            shared.pause(self.process, for_ms);
        }
    }

    fn schedule(&mut self, shared: &mut Shared, key: &TaskKey) {
        let delay = shared.random.between(30, 130);
        shared.after(delay, self.process, Input::Timer(Timer::Task(key.clone())));
    }

    fn cancel(&mut self, shared: &mut Shared, key: &TaskKey) {
        if self.task(key).is_none_or(|task| task.has_finished()) {
            return;
        }
        shared.step(Step::TaskCanceled, key);
        self.finish(shared, key, TaskState::Canceled, "");
    }

    fn finish(&mut self, shared: &mut Shared, key: &TaskKey, state: TaskState, why: &str) {
        shared.places.remove(key);
        let update = state_of(key, state, why);
        if let Some(worker) = self.workers.get_mut(&key.job) {
            let was = worker.tasks.remove(key).map(|task| place_of(&task));
            let ended = (update.clone(), was.unwrap_or_default());
            worker.ended.insert((key.vertex.clone(), key.subtask), ended);
        }
        self.send(shared, Message::TaskState(update));
    }

    /// It stays until others have taken what it has for them.
    fn note_finished(&mut self, shared: &mut Shared, key: &TaskKey, final_snapshot: TaskSnapshot) {
        shared.step(Step::TaskFinished, key);
        let update = TaskStateUpdate {
            final_snapshot: Some(final_snapshot),
            ..state_of(key, TaskState::Finished, "")
        };
        if let Some(worker) = self.workers.get_mut(&key.job)
            && let Some(task) = worker.tasks.get(key)
        {
            let ended = (update.clone(), place_of(task));
            worker.ended.insert((key.vertex.clone(), key.subtask), ended);
        }
        self.send(shared, Message::TaskState(update));
    }

    fn mail(&mut self, key: &TaskKey, checkpoint: u64, mail: Mail) {
        let Some(worker) = self.workers.get_mut(&key.job) else {
            return;
        };
        worker.newest_checkpoint = worker.newest_checkpoint.max(checkpoint);
        if let Some(task) = worker.tasks.get_mut(key) {
            task.mail.push_back(mail);
        }
    }

    pub(crate) fn task(&mut self, key: &TaskKey) -> Option<&mut Task> {
        self.workers.get_mut(&key.job)?.tasks.get_mut(key)
    }

    fn stored(&mut self, shared: &mut Shared, key: &TaskKey, answer: Result<Answer, StoreError>) {
        let answer: Result<Option<Content>, bool> = match answer {
            Ok(Answer::Content(content)) => Ok(Some(content)),
            Ok(_) => Ok(None),
            Err(error) => Err(error == StoreError::Missing),
        };
        self.with_task(shared, key, |task, shared| task.stored(shared, answer));
    }

    /// A task's turn; whether it is still there.
    pub(crate) fn step_task(&mut self, shared: &mut Shared, key: &TaskKey) {
        self.with_task(shared, key, Task::step);
        match self.task(key) {
            Some(task) if task.is_dispensable() => {
                shared.places.remove(key);
                if let Some(worker) = self.workers.get_mut(&key.job) {
                    worker.tasks.remove(key);
                }
            }
            Some(_) => self.schedule(shared, key),
            None => {}
        }
    }

    /// Its way to one of its producers is broken.
    pub(crate) fn fail_task(&mut self, shared: &mut Shared, key: &TaskKey, why: &str) {
        shared.step(Step::TaskFailed, format_args!("{key} {why}"));
        self.finish(shared, key, TaskState::Failed, why);
    }

    fn with_task(&mut self, shared: &mut Shared, key: &TaskKey, act: impl FnOnce(&mut Task, &mut Shared)) {
        let Some(task) = self.task(key) else { return };
        act(task, shared);
        for said in std::mem::take(&mut task.said) {
            match said {
                Said::State(TaskState::Failed, why) => self.finish(shared, key, TaskState::Failed, &why),
                Said::State(state, why) => {
                    self.send(shared, Message::TaskState(state_of(key, state, &why)));
                }
                Said::Finished(final_snapshot) => self.note_finished(shared, key, final_snapshot),
                Said::Acknowledge(acknowledge) => {
                    self.send(shared, Message::AcknowledgeCheckpoint(acknowledge));
                }
                Said::Decline(decline) => self.send(shared, Message::DeclineCheckpoint(decline)),
                Said::Ask(request) => {
                    self.next_ticket += 1;
                    self.asked.insert(self.next_ticket, key.clone());
                    shared.store(self.process, self.next_ticket, request);
                }
            }
        }
    }
}

fn failure(why: &str) -> Failure {
    Failure {
        class: FailureClass::Retryable.into(),
        message: why.to_owned(),
        detail: String::new(),
    }
}

fn state_of(key: &TaskKey, state: TaskState, why: &str) -> TaskStateUpdate {
    TaskStateUpdate {
        execution: Some(key.execution()),
        state: state.into(),
        failure: (state == TaskState::Failed).then(|| failure(why)),
        ..TaskStateUpdate::default()
    }
}

fn ready(job: &str, worker: &Worker) -> WorkerReady {
    WorkerReady {
        job_id: job.to_owned(),
        worker_generation: worker.start.worker_generation,
        data_address: worker.address.clone(),
    }
}

fn place_of(task: &Task) -> RunningTask {
    RunningTask {
        slot: task.slot,
        checkpoint_id: task.checkpoint,
        deployed_ms: 0,
    }
}

fn running(job: &str, worker: &Worker) -> RunningWorker {
    let tasks = worker.tasks.values().filter(|task| !task.has_finished());
    let (stop_savepoint_id, drains) = worker.stop.unwrap_or_default();
    let states = tasks.clone().map(|task| state_of(&task.key, task.state, ""));
    let known = tasks.map(place_of);
    let ended = worker.ended.values().map(|(_, was)| *was);
    RunningWorker {
        job_id: job.to_owned(),
        data_address: if worker.ready {
            worker.address.clone()
        } else {
            String::new()
        },
        slots: worker.start.slots.clone(),
        job_graph: worker.start.job_graph.clone(),
        tasks: states
            .chain(worker.ended.values().map(|(update, _)| update.clone()))
            .collect(),
        running: known.chain(ended).collect(),
        worker_generation: worker.start.worker_generation,
        exchange_token: worker.start.exchange_token.clone(),
        newest_checkpoint_id: worker.newest_checkpoint,
        stop_savepoint_id,
        drains,
        ..RunningWorker::default()
    }
}
