//! The whole JobManager over real sockets, with TaskManagers that follow a script.

use std::time::Duration;

use sha2::{Digest, Sha256};
use thalweg_proto::cluster::v1::cluster_client::ClusterClient;
use thalweg_proto::cluster::v1::{
    CancelJobRequest, ClusterSnapshot, PackageReference, SubmitJobRequest, WatchClusterRequest,
    submit_job_response,
};
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::task_manager_message::Message;
use thalweg_proto::control::v1::{FetchPackageRequest, TaskManagerHeartbeat, TaskState};
use tonic::Streaming;
use tonic::transport::Channel;

use super::*;
use crate::config::Application;
use crate::testing::{Running, ScriptedTaskManager, job_manager, job_package, package_directory};

mod checkpoints;
mod high_availability;

const RESTART: [(&str, &str); 2] = [
    ("restart-strategy.type", "fixed-delay"),
    ("restart-strategy.fixed-delay.delay", "1 ms"),
];

async fn cluster_client(running: &Running) -> ClusterClient<Channel> {
    ClusterClient::connect(format!("http://{}", running.handle.rpc_address()))
        .await
        .unwrap()
}

async fn watch(client: &mut ClusterClient<Channel>) -> Streaming<ClusterSnapshot> {
    let request = WatchClusterRequest {
        protocol_version: thalweg_proto::CLUSTER_PROTOCOL_VERSION,
    };
    client.watch_cluster(request).await.unwrap().into_inner()
}

/// The first snapshot of which this is true.
async fn until(
    snapshots: &mut Streaming<ClusterSnapshot>,
    wanted: impl Fn(&ClusterSnapshot) -> bool,
) -> ClusterSnapshot {
    let search = async {
        loop {
            let snapshot = snapshots.message().await.unwrap().unwrap();
            if wanted(&snapshot) {
                return snapshot;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), search)
        .await
        .expect("in time")
}

fn state_of(snapshot: &ClusterSnapshot) -> &str {
    snapshot.jobs.first().map_or("", |job| job.state.as_str())
}

#[tokio::test]
async fn an_operator_submits_watches_and_sees_the_job_end() {
    let running = job_manager(&[], None).await;
    let mut client = cluster_client(&running).await;
    let mut snapshots = watch(&mut client).await;
    let first = snapshots.message().await.unwrap().unwrap();
    assert_eq!(
        (first.epoch, first.slots_total, first.jobs.len()),
        (running.handle.epoch(), 0, 0)
    );

    let directory = running.folder.path().join("package");
    job_package(&directory, "counts");
    let request = SubmitJobRequest {
        operation_id: "op-1".to_owned(),
        package: Some(PackageReference {
            uri: directory.to_string_lossy().into_owned(),
            sha256: String::new(),
            sql: String::new(),
        }),
        parallelism: 2,
        job_name: "renamed".to_owned(),
        ..Default::default()
    };
    let answer = client
        .submit_job(request.clone())
        .await
        .unwrap()
        .into_inner()
        .result
        .unwrap();
    assert_eq!(
        client
            .submit_job(request)
            .await
            .unwrap()
            .into_inner()
            .result
            .unwrap(),
        answer,
        "one operation, one job"
    );
    let submit_job_response::Result::JobId(job) = answer else {
        panic!("{answer:?}")
    };
    let waiting = until(&mut snapshots, |snapshot| !snapshot.jobs.is_empty()).await;
    let status = &waiting.jobs[0];
    assert_eq!(
        (
            status.job_id.as_str(),
            status.name.as_str(),
            status.operation_id.as_str()
        ),
        (job.as_str(), "renamed", "op-1")
    );
    assert!(
        status.waiting_for.starts_with("2 of 2 slots"),
        "{}",
        status.waiting_for
    );

    let task_manager = ScriptedTaskManager::connect(&running, "tm", 3).await;
    let snapshot = until(&mut snapshots, |snapshot| {
        state_of(snapshot) == "RUNNING" && snapshot.jobs[0].tasks_running == 4
    })
    .await;
    assert_eq!((snapshot.slots_total, snapshot.slots_free), (3, 1));
    assert_eq!(snapshot.task_managers[0].free_slots, 1);

    task_manager.report_all(TaskState::Finished).await;
    let snapshot = until(&mut snapshots, |snapshot| state_of(snapshot) == "FINISHED").await;
    assert_eq!(snapshot.slots_free, 3);
}

#[tokio::test]
async fn a_running_jobs_package_is_fetched_by_its_hash() {
    let running = job_manager(&[], None).await;
    let job = running.submit("counts", &[]).await;
    let mut task_manager = ScriptedTaskManager::connect(&running, "tm", 1).await;
    running.until(job, "RUNNING").await;
    let start = task_manager
        .commands()
        .into_iter()
        .find_map(|command| match command {
            Command::StartWorker(start) => Some(start),
            _ => None,
        });
    let start = start.unwrap();
    let request = FetchPackageRequest {
        sha256: start.package_sha256.clone(),
    };
    let mut chunks = task_manager
        .client
        .fetch_package(request)
        .await
        .unwrap()
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        assert!(chunk.data.len() <= 256 << 10);
        bytes.extend(chunk.data);
    }
    assert_eq!(bytes.len() as u64, start.package_size);
    assert_eq!(hex::encode(Sha256::digest(&bytes)), start.package_sha256);
    let unknown = task_manager
        .client
        .fetch_package(FetchPackageRequest {
            sha256: "0".repeat(64),
        })
        .await;
    assert_eq!(unknown.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_killed_task_manager_is_noticed_at_once_and_the_job_moves() {
    let running = job_manager(&[], None).await;
    let first = ScriptedTaskManager::connect(&running, "first", 1).await;
    let job = running.submit("counts", &RESTART).await;
    running.until(job, "RUNNING").await;
    let second = ScriptedTaskManager::connect(&running, "second", 1).await;
    first.kill();
    let mut status = running.handle.watch_job(job).await.unwrap().unwrap();
    let moved = status.wait_for(|status| status.restarts == 1 && status.tasks_running == 2);
    let moved = tokio::time::timeout(Duration::from_secs(60), moved)
        .await
        .expect("in time")
        .unwrap()
        .clone();
    assert!(
        moved
            .last_failure
            .unwrap()
            .message
            .contains("TaskManager first is lost")
    );
    assert!(
        second
            .commands()
            .iter()
            .any(|command| matches!(command, Command::Deploy(_)))
    );
}

#[tokio::test]
async fn a_stale_epoch_ends_the_stream_with_the_reason() {
    let running = job_manager(&[], None).await;
    let task_manager = ScriptedTaskManager::connect(&running, "tm", 1).await;
    let stale = task_manager.epoch - 1;
    task_manager
        .send(stale, Message::Heartbeat(TaskManagerHeartbeat::default()))
        .await;
    let commands = task_manager.ended().await;
    assert!(
        matches!(&commands[..], [Command::Refused(refused)] if refused.reason.contains(&stale.to_string()))
    );
}

#[tokio::test]
async fn canceling_ends_the_tasks_and_is_idempotent() {
    let running = job_manager(&[], None).await;
    let _task_manager = ScriptedTaskManager::connect(&running, "tm", 1).await;
    let job = running.submit("counts", &[]).await;
    running.until(job, "RUNNING").await;
    let mut client = cluster_client(&running).await;
    let cancel = CancelJobRequest {
        job_id: job.to_string(),
        operation_id: String::new(),
    };
    let state = client
        .cancel_job(cancel.clone())
        .await
        .unwrap()
        .into_inner()
        .state;
    assert!(state == "CANCELLING" || state == "CANCELED", "{state}");
    running.until(job, "CANCELED").await;
    assert_eq!(
        client.cancel_job(cancel).await.unwrap().into_inner().state,
        "CANCELED"
    );
    let unknown = CancelJobRequest {
        job_id: "0".repeat(32),
        operation_id: String::new(),
    };
    assert_eq!(client.cancel_job(unknown).await.unwrap().into_inner().state, "");
    let malformed = CancelJobRequest {
        job_id: "zz".to_owned(),
        operation_id: String::new(),
    };
    assert_eq!(
        client.cancel_job(malformed).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
}

#[tokio::test]
async fn an_application_that_can_not_start_is_shown_and_the_process_stays() {
    let application = Application {
        package_uri: "local:///no/such/package".to_owned(),
        ..Default::default()
    };
    let running = job_manager(&[], Some(application)).await;
    let mut client = cluster_client(&running).await;
    let mut snapshots = watch(&mut client).await;
    let snapshot = until(&mut snapshots, |snapshot| snapshot.application_failure.is_some()).await;
    let failure = snapshot.application_failure.unwrap();
    assert_eq!(failure.message, "there is no package at local:///no/such/package");
    assert!(snapshot.jobs.is_empty());
}

#[tokio::test]
async fn an_application_whose_program_fails_says_what_the_program_said() {
    let folder = tempfile::tempdir().unwrap();
    package_directory(folder.path(), "#!/bin/sh\necho 'no topic given' >&2\nexit 2\n");
    let application = Application {
        package_uri: folder.path().to_string_lossy().into_owned(),
        ..Default::default()
    };
    let running = job_manager(&[], Some(application)).await;
    let mut client = cluster_client(&running).await;
    let mut snapshots = watch(&mut client).await;
    let snapshot = until(&mut snapshots, |snapshot| snapshot.application_failure.is_some()).await;
    let message = snapshot.application_failure.unwrap().message;
    assert!(
        message.contains("exit code 2") && message.ends_with("no topic given"),
        "{message}"
    );
}

#[tokio::test]
async fn an_application_runs_at_start_under_its_operation() {
    let folder = tempfile::tempdir().unwrap();
    job_package(folder.path(), "counts");
    let application = Application {
        package_uri: format!("local://{}", folder.path().display()),
        operation_id: "generation-3".to_owned(),
        parallelism: 1,
        ..Default::default()
    };
    let running = job_manager(&[], Some(application)).await;
    let _task_manager = ScriptedTaskManager::connect(&running, "tm", 1).await;
    let mut client = cluster_client(&running).await;
    let mut snapshots = watch(&mut client).await;
    let snapshot = until(&mut snapshots, |snapshot| state_of(snapshot) == "RUNNING").await;
    assert_eq!(snapshot.jobs[0].operation_id, "generation-3");
    assert_eq!(snapshot.application_failure, None);
}

#[tokio::test]
async fn another_protocol_version_of_the_operator_is_refused() {
    let running = job_manager(&[], None).await;
    let mut client = cluster_client(&running).await;
    let refused = client
        .watch_cluster(WatchClusterRequest { protocol_version: 99 })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn prometheus_reads_flinks_names_and_labels() {
    let running = job_manager(&[], None).await;
    let _task_manager = ScriptedTaskManager::connect(&running, "tm", 3).await;
    let job = running.submit("counts", &[]).await;
    running.until(job, "RUNNING").await;
    let url = format!("http://{}/metrics", running.handle.metrics_address());
    let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
    for line in [
        "# TYPE flink_jobmanager_taskSlotsTotal gauge".to_owned(),
        "flink_jobmanager_taskSlotsTotal{host=\"here\"} 3".to_owned(),
        "flink_jobmanager_taskSlotsAvailable{host=\"here\"} 2".to_owned(),
        "flink_jobmanager_numRegisteredTaskManagers{host=\"here\"} 1".to_owned(),
        "flink_jobmanager_numRunningJobs{host=\"here\"} 1".to_owned(),
        format!("flink_jobmanager_job_numRestarts{{host=\"here\",job_id=\"{job}\",job_name=\"counts\"}} 0"),
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(text.contains("flink_jobmanager_job_runningTime{"));
}

#[tokio::test]
async fn a_taken_port_and_a_wrong_key_are_start_errors() {
    let running = job_manager(&[], None).await;
    let config = |rpc_bind, key: &str| JobManagerConfig {
        configuration: thalweg_types::config::Configuration::from_map([(key.to_owned(), "1 s".to_owned())]),
        rpc_bind,
        rest_bind: ([127, 0, 0, 1], 0).into(),
        metrics_bind: ([127, 0, 0, 1], 0).into(),
        advertised_host: None,
        data_directory: running.folder.path().join("other"),
        temp_directory: running.folder.path().to_owned(),
        host: "here".to_owned(),
        application: None,
        default_checkpoint_directory: None,
    };
    let taken = JobManager::start(config(running.handle.rpc_address(), "heartbeat.interval")).await;
    assert!(matches!(
        taken.err(),
        Some(JobManagerError::Bind { service: "rpc", .. })
    ));
    let unknown = JobManager::start(config(([127, 0, 0, 1], 0).into(), "hartbeat.interval")).await;
    let message = unknown.err().unwrap().to_string();
    assert!(
        message.contains("hartbeat.interval") && message.contains("heartbeat.interval"),
        "{message}"
    );
}

#[tokio::test]
async fn shutdown_ends_every_stream() {
    let running = job_manager(&[], None).await;
    let task_manager = ScriptedTaskManager::connect(&running, "tm", 1).await;
    let mut client = cluster_client(&running).await;
    let mut snapshots = watch(&mut client).await;
    snapshots.message().await.unwrap();
    running.handle.shutdown().await;
    task_manager.ended().await;
    while let Ok(Some(_)) = snapshots.message().await {}
}
