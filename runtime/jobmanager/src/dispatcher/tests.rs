//! The control plane without a network: events and a clock in, commands out.

use std::collections::BTreeMap;

use thalweg_graph::execution::execution_attempt;
use thalweg_proto::control::v1::task_manager_message::Message;
use thalweg_proto::control::v1::{
    self as control, ExecutionAttempt, RegisterTaskManager, TaskDeployment, TaskManagerHeartbeat,
    TaskManagerMessage, TaskStateUpdate, WorkerFailed, WorkerReady,
};
use thalweg_types::config::Configuration;
use thalweg_types::{ExecutionId, TaskManagerId};

use super::*;
use crate::storage_work::StorageRequest;
use crate::testing::{Packages, submission};

mod alignment;
mod checkpoints;
mod failover;
mod takeover;

const EPOCH: u64 = 1_000;

/// A control plane and TaskManagers that do what the test says.
struct Cluster {
    dispatcher: Dispatcher,
    now_ms: u64,
    connections: u64,
    commands: BTreeMap<ConnectionId, Vec<Command>>,
    closed: Vec<ConnectionId>,
    storage: Vec<(JobId, StorageWork)>,
    records: Vec<(JobId, Content)>,
    /// What is not told yet.
    unlogged: Vec<(JobId, News)>,
    forgotten: Vec<JobId>,
    packages: Packages,
}

fn cluster(configuration: &[(&str, &str)]) -> Cluster {
    let entries = configuration
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let settings = Arc::new(Settings::read(&Configuration::from_map(entries)).unwrap());
    Cluster {
        dispatcher: Dispatcher::new(EPOCH, settings, 0),
        now_ms: 0,
        connections: 0,
        commands: BTreeMap::new(),
        closed: Vec::new(),
        storage: Vec::new(),
        records: Vec::new(),
        unlogged: Vec::new(),
        forgotten: Vec::new(),
        packages: Packages::new(),
    }
}

/// One that leads, and has a log of each job.
fn durable_cluster() -> Cluster {
    let mut cluster = cluster(&[]);
    cluster.dispatcher.lead(EPOCH);
    cluster.dispatcher.all_recovered(0);
    cluster
}

impl Cluster {
    fn settle(&mut self) {
        let mut confirmed = Vec::new();
        for effect in self.dispatcher.take_effects() {
            match effect {
                Effect::Storage(job, work) if work.request == StorageRequest::Confirm => confirmed.push(job),
                Effect::Send(connection, command) => {
                    self.commands.entry(connection).or_default().push(*command);
                }
                Effect::Close(connection) => self.closed.push(connection),
                Effect::Storage(job, work) => self.storage.push((job, *work)),
                Effect::Log(job, record, news) => {
                    self.records.push((job, *record));
                    self.unlogged.push((job, news));
                }
                Effect::Forget(job) => self.forgotten.push(job),
            }
        }
        let was_asked = !confirmed.is_empty();
        for job in confirmed {
            self.dispatcher
                .storage_done(job, StorageOutcome::Confirmed, self.now_ms);
        }
        if was_asked {
            self.settle();
        }
    }

    /// The logs have what was to be told.
    fn log(&mut self) {
        for (job, news) in std::mem::take(&mut self.unlogged) {
            self.dispatcher.logged(job, &news);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.dispatcher.run_timers(self.now_ms);
        self.settle();
    }

    fn register(&mut self, id: &str, slots: u32) -> ConnectionId {
        self.register_with(&RegisterTaskManager {
            task_manager_id: id.to_owned(),
            host: format!("{id}.host"),
            slots,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    fn register_with(&mut self, register: &RegisterTaskManager) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.dispatcher.connected(connection, register, 0, self.now_ms);
        self.settle();
        connection
    }

    fn take_commands(&mut self, connection: ConnectionId) -> Vec<Command> {
        self.commands.remove(&connection).unwrap_or_default()
    }

    fn say(&mut self, connection: ConnectionId, message: Message) {
        self.say_in(EPOCH, connection, message);
    }

    fn say_in(&mut self, epoch: u64, connection: ConnectionId, message: Message) {
        let message = TaskManagerMessage {
            epoch,
            message: Some(message),
        };
        self.dispatcher.message(connection, message, self.now_ms);
        self.settle();
    }

    async fn submit(&mut self, job: u128, configuration: &[(&str, &str)]) -> JobId {
        let submission = submission(&self.packages, JobId::from_u128(job), configuration).await;
        let (answer, answered) = oneshot::channel();
        let Begin::Proceed(ticket) = self.dispatcher.begin_submission(&submission.operation_id, answer)
        else {
            panic!("the operation is new");
        };
        self.dispatcher
            .submitted(ticket, Ok(Box::new(submission)), self.now_ms);
        self.settle();
        answered.await.unwrap().unwrap()
    }

    /// Says of every worker that was asked for that it is ready, and takes the tasks that come.
    fn start_workers(&mut self, connection: ConnectionId) -> Vec<TaskDeployment> {
        for command in self.take_commands(connection) {
            if let Command::StartWorker(start) = command {
                self.say(connection, ready(&start));
            }
        }
        deployed(self.take_commands(connection))
    }

    fn report(&mut self, connection: ConnectionId, tasks: &[ExecutionAttempt], state: control::TaskState) {
        for execution in tasks {
            let update = TaskStateUpdate {
                execution: Some(execution.clone()),
                state: state.into(),
                failure: None,
                ..TaskStateUpdate::default()
            };
            self.say(connection, Message::TaskState(update));
        }
    }

    fn status(&self, job: JobId) -> cluster::JobStatus {
        self.dispatcher.job_status(job).unwrap()
    }

    fn state(&self, job: JobId) -> String {
        self.status(job).state
    }

    /// A job that runs on one TaskManager, and its tasks.
    async fn running(
        &mut self,
        job: u128,
        configuration: &[(&str, &str)],
    ) -> (JobId, ConnectionId, Vec<ExecutionAttempt>) {
        let connection = self.register("tm", 2);
        let job = self.submit(job, configuration).await;
        let tasks = executions(&self.start_workers(connection));
        self.report(connection, &tasks, control::TaskState::Running);
        assert_eq!(self.state(job), "RUNNING");
        (job, connection, tasks)
    }
}

fn ready(start: &control::StartWorker) -> Message {
    Message::WorkerReady(WorkerReady {
        job_id: start.job_id.clone(),
        worker_generation: start.worker_generation,
        data_address: format!("host:{}", start.worker_generation),
    })
}

fn failed(start: &control::StartWorker, class: control::FailureClass, message: &str) -> Message {
    let failure = control::Failure {
        class: class.into(),
        message: message.to_owned(),
        detail: String::new(),
    };
    Message::WorkerFailed(WorkerFailed {
        job_id: start.job_id.clone(),
        worker_generation: start.worker_generation,
        failure: Some(failure),
    })
}

fn deployed(commands: Vec<Command>) -> Vec<TaskDeployment> {
    let deploys = commands.into_iter().filter_map(|command| match command {
        Command::Deploy(deploy) => Some(deploy.tasks),
        _ => None,
    });
    deploys.flatten().collect()
}

fn executions(tasks: &[TaskDeployment]) -> Vec<ExecutionAttempt> {
    tasks.iter().filter_map(|task| task.execution.clone()).collect()
}

fn start_commands(commands: &[Command]) -> Vec<&control::StartWorker> {
    let starts = commands.iter().filter_map(|command| match command {
        Command::StartWorker(start) => Some(start),
        _ => None,
    });
    starts.collect()
}

const FIXED: [(&str, &str); 3] = [
    ("restart-strategy.type", "fixed-delay"),
    ("restart-strategy.fixed-delay.attempts", "1"),
    ("restart-strategy.fixed-delay.delay", "1 s"),
];

#[tokio::test]
async fn a_job_gets_its_slots_workers_and_tasks_and_gives_all_back_at_its_end() {
    let mut cluster = cluster(&[]);
    let connection = cluster.register("tm", 2);
    let job = cluster.submit(1, &[]).await;
    assert_eq!(cluster.state(job), "CREATED");
    let commands = cluster.take_commands(connection);
    let [start] = start_commands(&commands)[..] else {
        panic!("one worker: {commands:?}")
    };
    assert_eq!(
        (start.slots.as_slice(), start.entry_path.as_str()),
        ([0].as_slice(), "bin/job")
    );
    assert_eq!(start.arguments, ["--sample"]);
    assert!(
        cluster.packages.store.get(&start.package_sha256).is_some(),
        "TaskManagers can fetch it"
    );

    cluster.say(connection, ready(start));
    let tasks = deployed(cluster.take_commands(connection));
    assert_eq!(tasks.len(), 2, "source, and the keyed chain");
    let consumer = &tasks[1].inputs[0].channels[0];
    assert!(consumer.data_address.starts_with("host:"), "{consumer:?}");
    let executions = executions(&tasks);
    cluster.report(connection, &executions, control::TaskState::Running);
    assert_eq!(
        (cluster.state(job), cluster.status(job).tasks_running),
        ("RUNNING".to_owned(), 2)
    );
    assert_eq!(cluster.dispatcher.resources().pool.free(), 1);

    cluster.report(connection, &executions, control::TaskState::Finished);
    assert_eq!(cluster.state(job), "FINISHED");
    assert_eq!(cluster.dispatcher.resources().pool.free(), 2);
    let commands = cluster.take_commands(connection);
    assert!(matches!(commands[..], [Command::StopWorker(_)]), "{commands:?}");
    assert!(
        cluster.packages.store.get(&start.package_sha256).is_none(),
        "the package is let go"
    );
}

#[tokio::test]
async fn a_job_waits_for_slots_says_so_and_runs_once_they_come() {
    let mut cluster = cluster(&[("heartbeat.timeout", "2 h")]);
    let first = cluster.register("a", 1);
    let job = cluster.submit(1, &[("parallelism.default", "3")]).await;
    assert_eq!(
        cluster.status(job).waiting_for,
        "2 of 3 slots: 1 TaskManagers offer 1 slots, 1 of them are free"
    );
    assert_eq!(cluster.state(job), "CREATED");
    cluster.pass(60 * 60 * 1000 - 1);
    let second = cluster.register("b", 2);
    let mut tasks = cluster.start_workers(first);
    assert!(tasks.is_empty(), "no task starts before every worker is ready");
    tasks.extend(cluster.start_workers(second));
    tasks.extend(deployed(cluster.take_commands(first)));
    assert_eq!(tasks.len(), 6);
    assert!(!cluster.status(job).waiting_for.contains("slots"));
}

#[tokio::test]
async fn a_lost_task_manager_restarts_the_job_elsewhere_by_its_strategy() {
    let mut cluster = cluster(&[]);
    let (job, connection, tasks) = cluster.running(1, &FIXED).await;
    cluster.dispatcher.disconnected(connection, cluster.now_ms);
    cluster.settle();
    let status = cluster.status(job);
    assert_eq!(status.state, "RESTARTING");
    assert!(
        status
            .last_failure
            .unwrap()
            .message
            .contains("TaskManager tm is lost: its connection broke")
    );
    let other = cluster.register("other", 1);
    cluster.pass(1_000);
    let again = executions(&cluster.start_workers(other));
    assert_eq!(again.iter().map(|task| task.attempt).collect::<Vec<_>>(), [1, 1]);
    cluster.report(other, &again, control::TaskState::Running);
    let status = cluster.status(job);
    assert_eq!((status.state.as_str(), status.restarts), ("RUNNING", 1));
    cluster.report(other, &tasks, control::TaskState::Finished);
    assert_eq!(
        cluster.state(job),
        "RUNNING",
        "what is said of an earlier attempt does not count"
    );
}

#[tokio::test]
async fn without_restarts_a_lost_task_manager_fails_its_job_and_leaves_others_alone() {
    let mut cluster = cluster(&[]);
    let mut jobs = Vec::new();
    for (number, name) in [(1, "a"), (2, "b")] {
        let connection = cluster.register(name, 1);
        let job = cluster.submit(number, &[]).await;
        let tasks = executions(&cluster.start_workers(connection));
        cluster.report(connection, &tasks, control::TaskState::Running);
        jobs.push((job, connection));
    }
    let [(first, _), (second, on_b)] = jobs[..] else {
        panic!("two jobs")
    };
    assert_eq!(
        (cluster.state(first).as_str(), cluster.state(second).as_str()),
        ("RUNNING", "RUNNING")
    );
    cluster.dispatcher.disconnected(on_b, cluster.now_ms);
    cluster.settle();
    assert_eq!(
        (cluster.state(first).as_str(), cluster.state(second).as_str()),
        ("RUNNING", "FAILED")
    );
    let failure = cluster.status(second).last_failure.unwrap();
    assert!(
        failure.message.contains("TaskManager b is lost"),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_task_that_fails_brings_its_words_into_the_status() {
    let mut cluster = cluster(&[]);
    let (job, connection, tasks) = cluster.running(1, &[]).await;
    let failure = control::Failure {
        class: control::FailureClass::Retryable.into(),
        message: "topic \"in\" is gone".to_owned(),
        detail: "chain".to_owned(),
    };
    let update = TaskStateUpdate {
        execution: Some(tasks[0].clone()),
        state: control::TaskState::Failed.into(),
        failure: Some(failure),
        ..TaskStateUpdate::default()
    };
    cluster.say(connection, Message::TaskState(update));
    let cancels = cluster.take_commands(connection);
    let [Command::Cancel(cancel)] = &cancels[..] else {
        panic!("the rest is canceled: {cancels:?}")
    };
    assert_eq!(cancel.executions, [tasks[1].clone()]);
    assert_eq!(cluster.state(job), "FAILING");
    cluster.report(connection, &tasks[1..], control::TaskState::Canceled);
    assert_eq!(cluster.state(job), "FAILED");
    assert!(
        cluster
            .status(job)
            .last_failure
            .unwrap()
            .message
            .contains("topic \"in\" is gone")
    );
}

#[tokio::test]
async fn messages_of_another_epoch_are_refused_and_cost_the_connection() {
    let mut cluster = cluster(&[]);
    let connection = cluster.register("tm", 1);
    cluster.take_commands(connection);
    cluster.say_in(
        EPOCH - 1,
        connection,
        Message::Heartbeat(TaskManagerHeartbeat::default()),
    );
    let commands = cluster.take_commands(connection);
    let [Command::Refused(refused)] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert!(
        refused
            .reason
            .contains("epoch 999 is not this leader's epoch 1000"),
        "{}",
        refused.reason
    );
    assert_eq!(cluster.closed, [connection]);
    assert_eq!(cluster.dispatcher.resources().pool.total(), 0);
}

#[tokio::test]
async fn a_task_manager_of_a_later_leader_is_refused() {
    let mut cluster = cluster(&[]);
    let register = RegisterTaskManager {
        task_manager_id: "tm".to_owned(),
        slots: 1,
        ..Default::default()
    };
    cluster
        .dispatcher
        .connected(ConnectionId(9), &register, EPOCH + 1, 0);
    cluster.settle();
    let commands = cluster.take_commands(ConnectionId(9));
    assert!(
        matches!(&commands[..], [Command::Refused(refused)] if refused.reason.contains("not the leader any more"))
    );
    assert_eq!(cluster.closed, [ConnectionId(9)]);
}

#[tokio::test]
async fn registering_again_takes_the_place_of_the_old_and_ends_its_workers() {
    let mut cluster = cluster(&[]);
    let (job, old, tasks) = cluster.running(1, &FIXED).await;
    let worker = control::RunningWorker {
        job_id: job.to_string(),
        ..Default::default()
    };
    let new = cluster.register_with(&RegisterTaskManager {
        task_manager_id: "tm".to_owned(),
        slots: 2,
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        workers: vec![worker],
        ..Default::default()
    });
    assert_eq!(cluster.closed, [old]);
    let commands = cluster.take_commands(new);
    assert!(matches!(commands[0], Command::Registered(_)), "{commands:?}");
    assert!(
        commands.iter().any(
            |command| matches!(command, Command::StopWorker(stop) if stop.worker_generation == u64::MAX)
        )
    );
    cluster.report(old, &tasks, control::TaskState::Finished);
    assert_eq!(
        cluster.state(job),
        "RESTARTING",
        "the old connection's word does not count"
    );
    cluster.dispatcher.disconnected(old, cluster.now_ms);
    assert_eq!(
        cluster.dispatcher.resources().pool.total(),
        2,
        "its end does not cost the new one"
    );
}

#[tokio::test]
async fn silence_counts_as_loss_and_heartbeats_are_asked_for() {
    let mut cluster = cluster(&[("heartbeat.interval", "10 s"), ("heartbeat.timeout", "50 s")]);
    let silent = cluster.register("silent", 1);
    let alive = cluster.register("alive", 1);
    for _ in 0..6 {
        cluster.pass(10_000);
        let asked = cluster.take_commands(alive);
        assert!(
            asked
                .iter()
                .any(|command| matches!(command, Command::Heartbeat(_))),
            "{asked:?}"
        );
        cluster.say(alive, Message::Heartbeat(TaskManagerHeartbeat::default()));
    }
    assert_eq!(cluster.closed, [silent]);
    assert_eq!(cluster.dispatcher.resources().pool.total(), 1);
}

#[tokio::test]
async fn a_worker_that_does_not_start_at_once_is_tried_again_before_the_job_finds_out() {
    let mut cluster = cluster(&[]);
    let connection = cluster.register("tm", 1);
    let job = cluster.submit(1, &[]).await;
    let mut starts = 0;
    while cluster.state(job) != "FAILED" {
        let commands = cluster.take_commands(connection);
        for start in start_commands(&commands) {
            starts += 1;
            cluster.say(
                connection,
                failed(start, control::FailureClass::Retryable, "slot 0 belongs to job x"),
            );
        }
        cluster.pass(1_000);
        assert!(starts < 100, "it ends at some time");
    }
    assert_eq!(starts, 4);
    assert!(
        cluster
            .status(job)
            .last_failure
            .unwrap()
            .message
            .contains("slot 0 belongs to job x")
    );
}

#[tokio::test]
async fn a_worker_that_can_not_start_fails_the_job_at_once() {
    let mut cluster = cluster(&[]);
    let connection = cluster.register("tm", 1);
    let job = cluster.submit(1, &FIXED).await;
    let commands = cluster.take_commands(connection);
    let start = start_commands(&commands)[0];
    cluster.say(
        connection,
        failed(start, control::FailureClass::Fatal, "another graph"),
    );
    assert_eq!(cluster.state(job), "FAILED");
}

#[tokio::test]
async fn a_canceled_job_ends_when_its_tasks_have_and_canceling_again_changes_nothing() {
    let mut cluster = cluster(&[]);
    let (job, connection, tasks) = cluster.running(1, &FIXED).await;
    assert_eq!(
        cluster.dispatcher.cancel(job, cluster.now_ms).as_deref(),
        Some("CANCELLING")
    );
    cluster.settle();
    let commands = cluster.take_commands(connection);
    assert!(
        matches!(&commands[..], [Command::Cancel(cancel)] if cancel.executions.len() == 2),
        "{commands:?}"
    );
    assert_eq!(
        cluster.dispatcher.cancel(job, cluster.now_ms).as_deref(),
        Some("CANCELLING")
    );
    cluster.report(connection, &tasks, control::TaskState::Canceled);
    assert_eq!(cluster.state(job), "CANCELED");
    assert_eq!(
        cluster.dispatcher.cancel(job, cluster.now_ms).as_deref(),
        Some("CANCELED")
    );
    assert_eq!(cluster.dispatcher.resources().pool.free(), 2);
    assert_eq!(
        cluster.dispatcher.cancel(JobId::from_u128(77), cluster.now_ms),
        None
    );
}

#[tokio::test]
async fn a_task_that_does_not_end_when_canceled_costs_its_worker() {
    let mut cluster = cluster(&[("task.cancellation.timeout", "3 s")]);
    let (job, connection, _) = cluster.running(1, &[]).await;
    cluster.dispatcher.cancel(job, cluster.now_ms);
    cluster.settle();
    cluster.take_commands(connection);
    cluster.pass(3_000);
    let commands = cluster.take_commands(connection);
    assert!(
        commands
            .iter()
            .any(|command| matches!(command, Command::StopWorker(_))),
        "{commands:?}"
    );
    assert_eq!(cluster.state(job), "CANCELED");
}

#[tokio::test]
async fn one_operation_is_one_job() {
    let mut cluster = cluster(&[]);
    let mut submission = submission(&cluster.packages, JobId::from_u128(1), &[]).await;
    submission.operation_id = "op-1".to_owned();
    let (first, first_answer) = oneshot::channel();
    let Begin::Proceed(ticket) = cluster.dispatcher.begin_submission("op-1", first) else {
        panic!("it is new")
    };
    let (second, second_answer) = oneshot::channel();
    assert!(matches!(
        cluster.dispatcher.begin_submission("op-1", second),
        Begin::Known
    ));
    cluster.dispatcher.submitted(ticket, Ok(Box::new(submission)), 0);
    let (third, third_answer) = oneshot::channel();
    assert!(matches!(
        cluster.dispatcher.begin_submission("op-1", third),
        Begin::Known
    ));
    for answer in [first_answer, second_answer, third_answer] {
        assert_eq!(answer.await.unwrap(), Ok(JobId::from_u128(1)));
    }
    assert_eq!(cluster.dispatcher.jobs().count(), 1);
}

#[tokio::test]
async fn an_operation_that_failed_may_be_tried_again() {
    let mut cluster = cluster(&[]);
    let (answer, answered) = oneshot::channel();
    let Begin::Proceed(ticket) = cluster.dispatcher.begin_submission("op-1", answer) else {
        panic!("it is new")
    };
    cluster
        .dispatcher
        .submitted(ticket, Err(Failure::new(FailureClass::Fatal, "no package")), 0);
    assert_eq!(answered.await.unwrap().unwrap_err().message, "no package");
    let (answer, _answered) = oneshot::channel();
    assert!(matches!(
        cluster.dispatcher.begin_submission("op-1", answer),
        Begin::Proceed(_)
    ));
}

#[tokio::test]
async fn ended_jobs_are_kept_up_to_a_number_and_an_age() {
    let mut cluster = cluster(&[
        ("jobstore.max-capacity", "2"),
        ("jobstore.expiration-time", "1 min"),
    ]);
    for job in 1..=3 {
        let job = cluster.submit(job, &[]).await;
        cluster.dispatcher.cancel(job, cluster.now_ms);
        cluster.settle();
    }
    let kept: Vec<JobId> = cluster.dispatcher.jobs().map(JobMaster::id).collect();
    assert_eq!(kept, [JobId::from_u128(2), JobId::from_u128(3)]);
    cluster.pass(120_000);
    assert_eq!(cluster.dispatcher.jobs().count(), 0);
}

#[tokio::test]
async fn counters_come_with_heartbeats_and_belong_to_the_current_attempt() {
    let mut cluster = cluster(&[]);
    let (job, connection, tasks) = cluster.running(1, &[]).await;
    let heartbeat = |execution: ExecutionAttempt, records_in| {
        let task = control::TaskMetrics {
            execution: Some(execution),
            records_in,
            ..Default::default()
        };
        Message::Heartbeat(TaskManagerHeartbeat {
            tasks: vec![task],
            ..Default::default()
        })
    };
    cluster.say(connection, heartbeat(tasks[1].clone(), 7));
    let late = ExecutionAttempt {
        attempt: 9,
        ..tasks[1].clone()
    };
    cluster.say(connection, heartbeat(late, 1000));
    let master = cluster.dispatcher.job(job).unwrap();
    assert_eq!(master.metrics(1, 0).map(|metrics| metrics.records_in), Some(7));
}

#[test]
fn an_execution_without_a_job_is_dropped() {
    let mut cluster = cluster(&[]);
    let connection = cluster.register("tm", 1);
    let unknown = ExecutionId {
        job: JobId::from_u128(5),
        vertex: thalweg_types::VertexId::from_u128(6),
        subtask: 0,
        attempt: 0,
    };
    cluster.report(
        connection,
        &[execution_attempt(unknown)],
        control::TaskState::Running,
    );
    assert_eq!(cluster.dispatcher.jobs().count(), 0);
}

#[tokio::test]
async fn how_a_job_ended_is_told_when_its_log_has_it() {
    for canceled in [false, true] {
        let mut cluster = durable_cluster();
        let (job, connection, tasks) = cluster.running(1, &[]).await;
        let (state, before, after) = match canceled {
            false => (control::TaskState::Finished, "RUNNING", "FINISHED"),
            true => (control::TaskState::Canceled, "CANCELLING", "CANCELED"),
        };
        if canceled {
            let told = cluster.dispatcher.cancel(job, cluster.now_ms);
            assert_eq!(told.as_deref(), Some(before));
        }
        cluster.report(connection, &tasks, state);
        assert_eq!(cluster.state(job), before);
        assert_eq!(cluster.dispatcher.resources().pool.free(), 2, "it has ended");
        let [(_, Content::Result(result))] = &cluster.records[..] else {
            panic!("{:?}", cluster.records)
        };
        assert_eq!(result.state, after);
        let master = cluster.dispatcher.job(job).unwrap();
        let entered = |master: &JobMaster| master.timestamps().find(|(name, _)| *name == after);
        assert_eq!((master.end_ms(), entered(master)), (None, Some((after, 0))));
        cluster.log();
        assert_eq!(cluster.state(job), after);
        assert!(cluster.dispatcher.job(job).unwrap().end_ms().is_some());
    }
}
