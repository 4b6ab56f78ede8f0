//! A TaskManager against a scripted JobManager: real gRPC, real packages, real processes.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests

mod job_manager;
mod takeover;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use job_manager::ScriptedJobManager;
use thalweg_proto::WORKER_PROTOCOL_VERSION;
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::task_manager_client::TaskManagerClient;
use thalweg_proto::control::v1::task_manager_message::Message;
use thalweg_proto::control::v1::{
    Failure, FailureClass, HeartbeatRequest, ReleaseJob, StartWorker, StopWorker, TaskManagerMessage,
    WorkerFailed, WorkerHello, WorkerMessage, worker_message,
};
use thalweg_proto::graph::v1::StreamGraph;
use thalweg_taskmanager::{TaskManager, TaskManagerConfig, TaskManagerHandle, WorkerOutput};
use thalweg_types::TaskManagerId;
use thalweg_types::config::Configuration;

const JOB: &str = "00000000000000000000000000000001";
const OTHER_JOB: &str = "00000000000000000000000000000002";

async fn start(
    job_manager: &ScriptedJobManager,
    folder: &tempfile::TempDir,
    slots: u32,
) -> TaskManagerHandle {
    start_with(job_manager, folder, slots, Configuration::default()).await
}

async fn start_with(
    job_manager: &ScriptedJobManager,
    folder: &tempfile::TempDir,
    slots: u32,
    configuration: Configuration,
) -> TaskManagerHandle {
    start_at(job_manager.address().to_string(), folder, slots, configuration).await
}

async fn start_at(
    job_manager: String,
    folder: &tempfile::TempDir,
    slots: u32,
    mut configuration: Configuration,
) -> TaskManagerHandle {
    configuration.set("taskmanager.numberOfTaskSlots", slots.to_string());
    configuration.set("taskmanager.memory.process.size", "512m");
    let config = TaskManagerConfig {
        configuration,
        id: TaskManagerId("tm-1".to_owned()),
        host: Ipv4Addr::LOCALHOST.to_string(),
        data_bind: Ipv4Addr::LOCALHOST.into(),
        job_manager,
        metrics_bind: (Ipv4Addr::LOCALHOST, 0).into(),
        data_directory: folder.path().to_owned(),
        worker_output: WorkerOutput::Log,
    };
    TaskManager::start(config).await.unwrap()
}

fn start_worker(job: &str, package: &str, size: u64, slots: &[u32]) -> StartWorker {
    StartWorker {
        job_id: job.to_owned(),
        worker_generation: 1,
        job_name: "job".to_owned(),
        package_sha256: package.to_owned(),
        package_size: size,
        slots: slots.to_vec(),
        entry_path: "bin/job".to_owned(),
        ..StartWorker::default()
    }
}

fn failed(message: TaskManagerMessage) -> WorkerFailed {
    match message.message {
        Some(Message::WorkerFailed(failed)) => failed,
        other => panic!("a worker's failure was expected: {other:?}"),
    }
}

#[tokio::test]
async fn it_registers_its_slots_and_answers_heartbeats_with_the_leaders_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(7).await;
    let task_manager = start(&job_manager, &folder, 3).await;
    let registration = job_manager.registration().await;
    assert_eq!(
        (registration.task_manager_id.as_str(), registration.slots),
        ("tm-1", 3)
    );
    assert!(registration.workers.is_empty());

    job_manager
        .send(7, Command::Heartbeat(HeartbeatRequest { sent_at_ms: 5 }))
        .await;
    let answer = job_manager.message().await;
    assert_eq!(answer.epoch, 7);
    assert!(matches!(answer.message, Some(Message::Heartbeat(heartbeat)) if heartbeat.sent_at_ms == 5));
    task_manager.shutdown().await;
}

#[tokio::test]
async fn a_worker_that_ends_is_reported_with_its_last_words_and_its_slots_are_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(1).await;
    let (package, size) = job_manager.serve_script("echo out of luck >&2; exit 3");
    let task_manager = start(&job_manager, &folder, 1).await;
    job_manager.registration().await;
    for job in [JOB, OTHER_JOB] {
        job_manager
            .send(1, Command::StartWorker(start_worker(job, &package, size, &[0])))
            .await;
        let failed = failed(job_manager.message().await);
        assert_eq!(failed.job_id, job);
        let failure = failed.failure.unwrap();
        assert_eq!(
            failure.message,
            "the worker process ended with exit code 3: out of luck"
        );
        assert_eq!(failure.class(), FailureClass::Retryable);
    }
    task_manager.shutdown().await;
}

#[tokio::test]
async fn a_package_that_the_job_manager_does_not_have_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(1).await;
    let task_manager = start(&job_manager, &folder, 1).await;
    job_manager.registration().await;
    job_manager
        .send(1, Command::StartWorker(start_worker(JOB, "feed", 10, &[0])))
        .await;
    let failure = failed(job_manager.message().await).failure.unwrap();
    assert!(
        failure.message.contains("the job package feed can't be fetched"),
        "{}",
        failure.message
    );
    task_manager.shutdown().await;
}

#[tokio::test]
async fn a_slot_is_given_to_one_job_until_the_job_manager_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(1).await;
    let (package, size) = job_manager.serve_script("exec sleep 1000");
    let task_manager = start(&job_manager, &folder, 1).await;
    job_manager.registration().await;
    job_manager
        .send(1, Command::StartWorker(start_worker(JOB, &package, size, &[0])))
        .await;
    job_manager
        .send(
            1,
            Command::StartWorker(start_worker(OTHER_JOB, &package, size, &[0])),
        )
        .await;
    let refused = failed(job_manager.message().await);
    assert_eq!(refused.job_id, OTHER_JOB);
    assert_eq!(
        refused.failure.unwrap().message,
        format!("slot 0 belongs to job {JOB}")
    );

    let stop = StopWorker {
        job_id: JOB.to_owned(),
        worker_generation: u64::MAX,
    };
    job_manager.send(1, Command::StopWorker(stop)).await;
    let (ends, ends_size) = job_manager.serve_script("exit 4");
    job_manager
        .send(
            1,
            Command::StartWorker(start_worker(OTHER_JOB, &ends, ends_size, &[0])),
        )
        .await;
    let ended = failed(job_manager.message().await);
    assert_eq!(
        ended.job_id, OTHER_JOB,
        "the stopped worker is not reported, and its slot is free"
    );
    assert!(ended.failure.unwrap().message.contains("exit code 4"));
    task_manager.shutdown().await;
}

#[tokio::test]
async fn a_command_of_an_earlier_leader_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(9).await;
    let task_manager = start(&job_manager, &folder, 1).await;
    job_manager.registration().await;
    job_manager
        .send(8, Command::Heartbeat(HeartbeatRequest { sent_at_ms: 1 }))
        .await;
    job_manager
        .send(9, Command::Heartbeat(HeartbeatRequest { sent_at_ms: 2 }))
        .await;
    let answer = job_manager.message().await;
    assert!(matches!(answer.message, Some(Message::Heartbeat(heartbeat)) if heartbeat.sent_at_ms == 2));
    task_manager.shutdown().await;
}

#[tokio::test]
async fn after_a_broken_stream_it_registers_again_with_the_workers_that_still_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(1).await;
    let (package, size) = job_manager.serve_script("exec sleep 1000");
    let task_manager = start(&job_manager, &folder, 2).await;
    job_manager.registration().await;
    job_manager
        .send(1, Command::StartWorker(start_worker(JOB, &package, size, &[1])))
        .await;
    // The answer to the heartbeat tells that the command before it was worked off.
    job_manager
        .send(1, Command::Heartbeat(HeartbeatRequest { sent_at_ms: 1 }))
        .await;
    job_manager.message().await;

    job_manager.break_stream();
    let registration = job_manager.registration().await;
    assert_eq!(registration.workers.len(), 1);
    assert_eq!(
        (
            registration.workers[0].job_id.as_str(),
            registration.workers[0].slots.as_slice()
        ),
        (JOB, &[1][..])
    );
    task_manager.shutdown().await;
}

#[tokio::test]
async fn a_job_manager_that_takes_no_messages_is_given_up_and_dialed_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut job_manager = ScriptedJobManager::start(1).await;
    let task_manager = start(&job_manager, &folder, 1).await;
    job_manager.registration().await;
    job_manager.hang().await;
    task_manager.shutdown().await;
}

#[tokio::test]
async fn what_a_worker_left_for_restarts_is_found_by_the_next_also_of_the_next_task_manager_and_goes_with_its_job()
 {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut configuration = Configuration::default();
    configuration.set("process.taskmanager.working-dir", kept.path().to_string_lossy());
    configuration.set("thalweg.local-backup.max-size", "4kb");
    let mut job_manager = ScriptedJobManager::start(1).await;
    let script = "mkdir -p $THALWEG_LOCAL_STATE; echo x >> $THALWEG_LOCAL_STATE/copy; \
                  echo $(wc -l < $THALWEG_LOCAL_STATE/copy) of $THALWEG_LOCAL_STATE_BYTES >&2; exit 3";
    let (package, size) = job_manager.serve_script(script);
    let mut last_words = Vec::new();
    for _ in 0..2 {
        let task_manager = start_with(&job_manager, &folder, 2, configuration.clone()).await;
        job_manager.registration().await;
        for generation in [1, 2] {
            let start = StartWorker {
                worker_generation: generation,
                ..start_worker(JOB, &package, size, &[0])
            };
            job_manager.send(1, Command::StartWorker(start)).await;
            let failure = failed(job_manager.message().await).failure.unwrap();
            last_words.push(failure.detail);
        }
        task_manager.shutdown().await;
    }
    assert_eq!(last_words, ["1 of 2048", "2 of 2048", "3 of 2048", "4 of 2048"]);

    let task_manager = start_with(&job_manager, &folder, 2, configuration.clone()).await;
    job_manager.registration().await;
    let copies = kept.path().join("tm_tm-1/localState").join(JOB);
    assert!(copies.exists());
    let release = ReleaseJob {
        job_id: JOB.to_owned(),
    };
    job_manager.send(1, Command::ReleaseJob(release)).await;
    while copies.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    task_manager.shutdown().await;
}

/// What a worker process is given, once it has written it down.
async fn environment_in(file: &std::path::Path) -> HashMap<String, String> {
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.ends_with("DONE\n") {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            return pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a worker of [`JOB`] says first.
fn hello(environment: &HashMap<String, String>, data_port: u32) -> WorkerHello {
    WorkerHello {
        protocol_version: WORKER_PROTOCOL_VERSION,
        job_id: JOB.to_owned(),
        token: environment["THALWEG_WORKER_TOKEN"].clone(),
        data_port,
        stream_graph: Some(StreamGraph::default()),
        ..WorkerHello::default()
    }
}

#[tokio::test]
async fn a_worker_whose_data_port_does_not_open_is_a_failure_with_its_reason_and_never_ready() {
    let folder = tempfile::tempdir().unwrap();
    let told = tempfile::tempdir().unwrap();
    let file = told.path().join("environment");
    let mut job_manager = ScriptedJobManager::start(1).await;
    let script = format!("(env; echo DONE) > {}; exec sleep 1000", file.display());
    let (package, size) = job_manager.serve_script(&script);
    let task_manager = start(&job_manager, &folder, 1).await;
    job_manager.registration().await;
    let start = StartWorker {
        stream_graph: Some(StreamGraph::default()),
        ..start_worker(JOB, &package, size, &[0])
    };
    job_manager.send(1, Command::StartWorker(start)).await;

    let environment = environment_in(&file).await;
    let hello = hello(&environment, 0);
    let reason = Failure {
        class: FailureClass::Retryable.into(),
        message: "no port is free".to_owned(),
        detail: String::new(),
    };
    let messages = [
        worker_message::Message::Hello(hello),
        worker_message::Message::Failed(reason),
    ]
    .map(|message| WorkerMessage {
        message: Some(message),
    });
    let gateway = environment["THALWEG_WORKER_GATEWAY"].clone();
    let mut client = TaskManagerClient::connect(gateway).await.unwrap();
    let _commands = client.connect_worker(tokio_stream::iter(messages)).await.unwrap();
    let failure = failed(job_manager.message().await).failure.unwrap();
    assert!(failure.message.contains("no port is free"), "{}", failure.message);
    task_manager.shutdown().await;
}
