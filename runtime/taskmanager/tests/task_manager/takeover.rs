//! Several JobManagers of which one leads, and what the next one is told.

use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, CancelTasks, DeployTasks, ExecutionAttempt, ReleaseSlots, RunningTask,
    TaskDeployment, TaskState, TaskStateUpdate, TriggerCheckpoint, WorkerCommand, worker_command,
};
use thalweg_proto::state::v1::{TaskRestore, TaskSnapshot};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::*;

/// A worker process that the test plays: the program itself only sleeps.
struct PlayedWorker {
    messages: mpsc::Sender<WorkerMessage>,
    commands: Streaming<WorkerCommand>,
}

impl PlayedWorker {
    /// Is started by the JobManager, and ready.
    async fn start(job_manager: &mut ScriptedJobManager, epoch: u64, slots: &[u32]) -> Self {
        let told = tempfile::tempdir().unwrap();
        let file = told.path().join("environment");
        let script = format!("(env; echo DONE) > {}; exec sleep 1000", file.display());
        let (package, size) = job_manager.serve_script(&script);
        let start = StartWorker {
            stream_graph: Some(StreamGraph::default()),
            exchange_token: "secret".to_owned(),
            ..start_worker(JOB, &package, size, slots)
        };
        job_manager.send(epoch, Command::StartWorker(start)).await;
        let environment = environment_in(&file).await;
        let gateway = environment["THALWEG_WORKER_GATEWAY"].clone();
        let mut client = TaskManagerClient::connect(gateway).await.unwrap();
        let (messages, outgoing) = mpsc::channel(8);
        let hello = WorkerMessage {
            message: Some(worker_message::Message::Hello(hello(&environment, 77))),
        };
        messages.send(hello).await.unwrap();
        let commands = client
            .connect_worker(ReceiverStream::new(outgoing))
            .await
            .unwrap();
        let ready = job_manager.message().await.message;
        assert!(matches!(ready, Some(Message::WorkerReady(_))), "{ready:?}");
        Self {
            messages,
            commands: commands.into_inner(),
        }
    }

    async fn say(&self, message: worker_message::Message) {
        let message = WorkerMessage {
            message: Some(message),
        };
        self.messages.send(message).await.unwrap();
    }

    async fn command(&mut self) -> worker_command::Command {
        let command = self.commands.message().await.unwrap();
        command.and_then(|command| command.command).unwrap()
    }
}

fn execution(subtask: u32) -> ExecutionAttempt {
    ExecutionAttempt {
        job_id: JOB.to_owned(),
        vertex_id: "v".to_owned(),
        subtask,
        attempt: 2,
    }
}

fn state(subtask: u32, state: TaskState) -> TaskStateUpdate {
    TaskStateUpdate {
        execution: Some(execution(subtask)),
        state: state.into(),
        final_snapshot: (state == TaskState::Finished).then(TaskSnapshot::default),
        ..TaskStateUpdate::default()
    }
}

#[tokio::test]
async fn the_next_leader_is_told_what_the_workers_run_with_their_checkpoints_and_what_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(1).await;
    let task_manager = start(&job_manager, &folder, 2).await;
    job_manager.registration().await;
    let mut worker = PlayedWorker::start(&mut job_manager, 1, &[0, 1]).await;
    let task = |subtask: u32| TaskDeployment {
        execution: Some(execution(subtask)),
        slot: subtask,
        restore: Some(TaskRestore {
            checkpoint_id: 4,
            ..TaskRestore::default()
        }),
        ..TaskDeployment::default()
    };
    let tasks = vec![task(0), task(1)];
    job_manager.send(1, Command::Deploy(DeployTasks { tasks })).await;
    let trigger = TriggerCheckpoint {
        executions: vec![execution(0)],
        checkpoint_id: 6,
        ..TriggerCheckpoint::default()
    };
    job_manager.send(1, Command::TriggerCheckpoint(trigger)).await;
    for _ in 0..2 {
        worker.command().await;
    }
    let (running, finished) = (state(0, TaskState::Running), state(1, TaskState::Finished));
    worker
        .say(worker_message::Message::TaskState(running.clone()))
        .await;
    worker
        .say(worker_message::Message::TaskState(finished.clone()))
        .await;
    let acknowledge = AcknowledgeCheckpoint {
        execution: Some(execution(0)),
        checkpoint_id: 5,
        ..AcknowledgeCheckpoint::default()
    };
    worker
        .say(worker_message::Message::AcknowledgeCheckpoint(acknowledge))
        .await;
    for _ in 0..3 {
        job_manager.message().await;
    }

    job_manager.break_stream();
    let workers = job_manager.registration().await.workers;
    let [reported] = &workers[..] else {
        panic!("one worker: {workers:?}")
    };
    assert_eq!(
        (
            reported.data_address.as_str(),
            reported.worker_generation,
            reported.exchange_token.as_str()
        ),
        ("127.0.0.1:77", 1, "secret")
    );
    assert_eq!(reported.tasks, [running, finished]);
    let checkpoints = [5, 4].into_iter().zip(0..);
    let expected = checkpoints.map(|(checkpoint_id, slot)| RunningTask {
        slot,
        checkpoint_id,
        deployed_ms: 0,
    });
    assert_eq!(reported.running, expected.collect::<Vec<_>>());
    assert_eq!(reported.newest_checkpoint_id, 6);
    task_manager.shutdown().await;
}

#[tokio::test]
async fn the_leader_of_the_highest_epoch_is_followed_and_the_workers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let [mut first, mut second] = [
        ScriptedJobManager::start(3).await,
        ScriptedJobManager::start(4).await,
    ];
    first.lead(3);
    second.know_of_no_leader();
    let addresses = format!("{}, {}", second.address(), first.address());
    let task_manager = start_at(addresses, &folder, 1, Configuration::default()).await;
    assert!(first.registration().await.workers.is_empty());
    let mut worker = PlayedWorker::start(&mut first, 3, &[0]).await;

    // The first one hangs: it still says that it leads, and keeps its stream.
    second.lead(4);
    let message = second.message().await;
    let Some(Message::Register(registration)) = message.message else {
        panic!("a registration was expected: {message:?}")
    };
    assert_eq!(message.epoch, 3, "the highest that was followed");
    assert_eq!(registration.workers[0].data_address, "127.0.0.1:77");
    let tasks = vec![TaskDeployment {
        execution: Some(execution(0)),
        ..TaskDeployment::default()
    }];
    second.send(4, Command::Deploy(DeployTasks { tasks })).await;
    assert!(matches!(
        worker.command().await,
        worker_command::Command::Deploy(_)
    ));
    worker
        .say(worker_message::Message::TaskState(state(0, TaskState::Running)))
        .await;
    let told = second.message().await;
    assert_eq!(told.epoch, 4);
    assert!(matches!(told.message, Some(Message::TaskState(_))), "{told:?}");
    task_manager.shutdown().await;
}

#[tokio::test]
async fn one_that_led_before_is_not_followed_again_though_nobody_else_leads() {
    let folder = tempfile::tempdir().unwrap();
    let [first, mut second] = [
        ScriptedJobManager::start(3).await,
        ScriptedJobManager::start(4).await,
    ];
    first.lead(3);
    second.lead(4);
    let addresses = format!("{},{}", first.address(), second.address());
    let task_manager = start_at(addresses, &folder, 1, Configuration::default()).await;
    second.registration().await;
    second.know_of_no_leader();
    second.break_stream();
    assert_eq!(first.streams_when_asked_again().await, 0);
    second.lead(5);
    // The scripted one still greets with its epoch 4, which is no lower than what was followed.
    second.registration().await;
    task_manager.shutdown().await;
}

#[tokio::test]
async fn a_leader_that_hangs_or_is_gone_does_not_keep_anybody_from_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    // It takes connections, and says nothing.
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut standby = ScriptedJobManager::start(4).await;
    standby.know_of(hanging.local_addr().unwrap(), 3);
    let addresses = format!("{},{}", standby.address(), hanging.local_addr().unwrap());
    let task_manager = start_at(addresses, &folder, 1, Configuration::default()).await;
    let (_dialed, _) = hanging.accept().await.unwrap();
    assert_eq!(standby.streams_when_asked_again().await, 0);
    standby.lead(4);
    standby.registration().await;
    task_manager.shutdown().await;
}

#[tokio::test]
async fn slots_that_a_worker_needs_no_more_are_another_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(1).await;
    let task_manager = start(&job_manager, &folder, 2).await;
    job_manager.registration().await;
    let _worker = PlayedWorker::start(&mut job_manager, 1, &[0, 1]).await;
    let release = ReleaseSlots {
        job_id: JOB.to_owned(),
        worker_generation: 1,
        slots: vec![1],
    };
    job_manager.send(1, Command::ReleaseSlots(release)).await;
    let told = tempfile::tempdir().unwrap();
    let file = told.path().join("environment");
    let script = format!("(env; echo DONE) > {}; exec sleep 1000", file.display());
    let (package, size) = job_manager.serve_script(&script);
    let other = start_worker(OTHER_JOB, &package, size, &[1]);
    job_manager.send(1, Command::StartWorker(other)).await;
    environment_in(&file).await;
    job_manager.break_stream();
    let workers = job_manager.registration().await.workers;
    let held: Vec<_> = workers
        .iter()
        .map(|worker| (worker.job_id.as_str(), &worker.slots[..]))
        .collect();
    assert_eq!(held, [(JOB, &[0][..]), (OTHER_JOB, &[1][..])]);
    task_manager.shutdown().await;
}

#[tokio::test]
async fn the_tasks_of_a_worker_reach_it_in_one_command_however_many_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(1).await;
    let task_manager = start(&job_manager, &folder, 1).await;
    job_manager.registration().await;
    let mut worker = PlayedWorker::start(&mut job_manager, 1, &[0]).await;
    let task = |subtask: u32| TaskDeployment {
        execution: Some(execution(subtask)),
        ..TaskDeployment::default()
    };
    let tasks: Vec<TaskDeployment> = (0..500).map(task).collect();
    job_manager
        .send(1, Command::Deploy(DeployTasks { tasks: tasks.clone() }))
        .await;
    let worker_command::Command::Deploy(deployed) = worker.command().await else {
        panic!("no deployment")
    };
    assert_eq!(deployed.tasks, tasks);
    let executions: Vec<_> = (0..500).map(execution).collect();
    let cancel = CancelTasks {
        executions: executions.clone(),
    };
    job_manager.send(1, Command::Cancel(cancel)).await;
    let worker_command::Command::Cancel(canceled) = worker.command().await else {
        panic!("no cancel")
    };
    assert_eq!(canceled.executions, executions);
    task_manager.shutdown().await;
}
