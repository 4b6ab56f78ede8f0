//! Checkpoints, restarts from them, and starts from state, with a TaskManager that follows a script.

use std::path::{Path, PathBuf};

use thalweg_proto::cluster::v1::{RestoreSettings, TriggerSavepointRequest};
use thalweg_proto::control::v1::{FailureClass, TaskDeployment};
use thalweg_types::Failure;

use super::*;
use crate::dispatcher::RestoreRequest;
use crate::testing::OnCheckpoint;

fn uri(running: &Running, name: &str) -> String {
    format!("file://{}/{name}", running.folder.path().display())
}

/// Submits a job with a folder for checkpoints, and what else is configured.
async fn submit(running: &Running, name: &str, extra: &[(&str, &str)]) -> JobId {
    let folder = uri(running, "checkpoints");
    let mut configuration = vec![
        ("execution.checkpointing.dir", folder.as_str()),
        ("parallelism.default", "2"),
    ];
    configuration.extend(RESTART);
    configuration.extend(extra);
    running.submit(name, &configuration).await
}

async fn until_status(
    running: &Running,
    job: JobId,
    wanted: impl FnMut(&cluster::JobStatus) -> bool,
) -> cluster::JobStatus {
    let mut status = running.handle.watch_job(job).await.unwrap().unwrap();
    let reached = tokio::time::timeout(Duration::from_secs(60), status.wait_for(wanted));
    reached.await.expect("in time").unwrap().clone()
}

fn completed(status: &cluster::JobStatus) -> u64 {
    status
        .checkpoints
        .as_ref()
        .map_or(0, |checkpoints| checkpoints.completed)
}

fn restored_from(task: &TaskDeployment) -> u64 {
    task.restore.as_ref().map_or(0, |restore| restore.checkpoint_id)
}

fn path_of(uri: &str) -> PathBuf {
    uri.strip_prefix("file://").unwrap().into()
}

/// Everything below a folder that is a checkpoint or savepoint.
fn snapshots_in(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let entries = entries.map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            if path.is_dir() {
                snapshots_in(&path)
            } else {
                usize::from(path.file_name().is_some_and(|name| name == "_metadata"))
            }
        })
        .sum()
}

#[tokio::test]
async fn checkpoints_are_taken_at_the_interval_and_the_newest_is_retained() {
    let running = job_manager(&[], None).await;
    let _task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let job = submit(
        &running,
        "counts",
        &[
            ("execution.checkpointing.interval", "20 ms"),
            (
                "execution.checkpointing.externalized-checkpoint-retention",
                "RETAIN_ON_CANCELLATION",
            ),
        ],
    )
    .await;
    let status = until_status(&running, job, |status| completed(status) >= 3).await;
    let checkpoints = status.checkpoints.unwrap();
    assert!(checkpoints.latest_id >= 3, "{checkpoints:?}");
    assert!(path_of(&checkpoints.latest_path).ends_with(format!("{job}/chk-{}", checkpoints.latest_id)));
    running.handle.cancel(job).await.unwrap();
    let ended = running.until(job, "CANCELED").await.checkpoints.unwrap();
    assert!(path_of(&ended.latest_path).join("_metadata").exists());
}

#[tokio::test]
async fn a_canceled_job_takes_its_checkpoints_along_unless_they_are_retained() {
    let running = job_manager(&[], None).await;
    let _task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let job = submit(
        &running,
        "counts",
        &[("execution.checkpointing.interval", "20 ms")],
    )
    .await;
    until_status(&running, job, |status| completed(status) >= 1).await;
    running.handle.cancel(job).await.unwrap();
    running.until(job, "CANCELED").await;
    let Running { handle, folder } = running;
    handle.shutdown().await;
    assert_eq!(snapshots_in(&folder.path().join("checkpoints")), 0);
}

#[tokio::test]
async fn a_restart_goes_on_from_the_newest_checkpoint() {
    let running = job_manager(&[], None).await;
    let task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let job = submit(
        &running,
        "counts",
        &[("execution.checkpointing.interval", "20 ms")],
    )
    .await;
    assert!(
        task_manager
            .deployments()
            .iter()
            .all(|task| restored_from(task) == 0)
    );
    let before = until_status(&running, job, |status| completed(status) >= 2).await;
    let latest_id = before.checkpoints.as_ref().unwrap().latest_id;
    task_manager.kill();
    until_status(&running, job, |status| status.tasks_running == 0).await;
    let next = ScriptedTaskManager::connect(&running, "next", 2).await;
    until_status(&running, job, |status| {
        status.tasks_running == 4 && status.restarts == 1
    })
    .await;
    let deployments = next.deployments();
    assert_eq!(deployments.len(), 4);
    for task in &deployments {
        assert!(restored_from(task) >= latest_id, "{task:?}");
        let vertex = task.vertex.as_ref().unwrap();
        let restore = task.restore.as_ref().unwrap();
        assert_eq!(restore.operators.len(), vertex.chain.len());
        let items: u64 = restore.operators[0].lists.iter().map(|list| list.count).sum();
        assert_eq!(items, 2, "a union list: everybody gets all items");
    }
    let done = completed(&before);
    until_status(&running, job, |status| completed(status) > done).await;
}

#[tokio::test]
async fn declined_and_late_checkpoints_count_as_failed_and_the_job_runs_on_if_that_is_tolerated() {
    let running = job_manager(&[], None).await;
    let task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    task_manager.on_checkpoint(OnCheckpoint::Decline);
    let job = submit(
        &running,
        "counts",
        &[
            ("execution.checkpointing.interval", "20 ms"),
            ("execution.checkpointing.timeout", "20 ms"),
            ("execution.checkpointing.tolerable-failed-checkpoints", "1000000"),
        ],
    )
    .await;
    let failed = |status: &cluster::JobStatus| status.checkpoints.clone().unwrap_or_default();
    let declined = until_status(&running, job, |status| failed(status).failed >= 1).await;
    assert!(
        failed(&declined).last_failure.contains("the disk is full"),
        "{declined:?}"
    );
    task_manager.on_checkpoint(OnCheckpoint::KeepSilent);
    until_status(&running, job, |status| {
        failed(status)
            .last_failure
            .contains("execution.checkpointing.timeout")
    })
    .await;
    task_manager.on_checkpoint(OnCheckpoint::Acknowledge);
    let recovered = until_status(&running, job, |status| completed(status) >= 1).await;
    assert_eq!((recovered.state.as_str(), recovered.restarts), ("RUNNING", 0));
}

#[tokio::test]
async fn a_failed_checkpoint_fails_the_job_if_none_is_tolerated() {
    let running = job_manager(&[], None).await;
    let task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    task_manager.on_checkpoint(OnCheckpoint::Decline);
    let job = submit(
        &running,
        "counts",
        &[
            ("execution.checkpointing.interval", "20 ms"),
            ("restart-strategy.type", "none"),
        ],
    )
    .await;
    let failed = running.until(job, "FAILED").await.last_failure.unwrap();
    assert!(failed.message.contains("the disk is full"), "{failed:?}");
}

/// A job that was stopped behind a savepoint; the savepoint's path.
async fn stopped(running: &Running, name: &str) -> String {
    let job = submit(running, name, &[]).await;
    until_status(running, job, |status| status.tasks_running == 4).await;
    let mut client = cluster_client(running).await;
    let request = TriggerSavepointRequest {
        job_id: job.to_string(),
        operation_id: "stop-1".to_owned(),
        target_directory: uri(running, "savepoints"),
        stop: true,
        drain: false,
    };
    for _ in 0..2 {
        let answer = client
            .trigger_savepoint(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.failure, None, "the same operation twice is one");
    }
    let status = running.until(job, "FINISHED").await;
    let [savepoint] = status.savepoints.as_slice() else {
        panic!("one savepoint: {status:?}");
    };
    assert_eq!(
        (savepoint.operation_id.as_str(), savepoint.stops_job),
        ("stop-1", true)
    );
    savepoint.path.clone()
}

#[tokio::test]
async fn an_operator_stops_a_job_with_a_savepoint_and_another_starts_from_it() {
    let running = job_manager(&[], None).await;
    let task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let path = stopped(&running, "counts").await;
    let before = task_manager.deployments().len();
    let directory = running.folder.path().join("counts");
    let request = SubmitJobRequest {
        package: Some(PackageReference {
            uri: directory.to_string_lossy().into_owned(),
            sha256: String::new(),
            sql: String::new(),
        }),
        parallelism: 1,
        restore: Some(RestoreSettings {
            path: path.clone(),
            ..RestoreSettings::default()
        }),
        ..Default::default()
    };
    let mut client = cluster_client(&running).await;
    let answer = client
        .submit_job(request)
        .await
        .unwrap()
        .into_inner()
        .result
        .unwrap();
    let submit_job_response::Result::JobId(job) = answer else {
        panic!("{answer:?}");
    };
    let job: JobId = job.parse().unwrap();
    until_status(&running, job, |status| status.tasks_running == 2).await;
    let deployments = task_manager.deployments().split_off(before);
    for task in &deployments {
        let restore = task.restore.as_ref().unwrap();
        assert_eq!((restore.checkpoint_id, restore.operators.is_empty()), (1, false));
    }
    assert!(
        path_of(&path).join("_metadata").exists(),
        "NO_CLAIM leaves it alone"
    );
}

#[tokio::test]
async fn a_stop_whose_savepoint_fails_says_why_and_the_job_goes_on_until_another_stops_it() {
    let running = job_manager(&[], None).await;
    let task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let job = submit(&running, "counts", &[]).await;
    until_status(&running, job, |status| status.tasks_running == 4).await;
    let mut client = cluster_client(&running).await;
    let mut stop = async |operation_id: &str| {
        let request = TriggerSavepointRequest {
            job_id: job.to_string(),
            operation_id: operation_id.to_owned(),
            target_directory: uri(&running, "savepoints"),
            stop: true,
            drain: false,
        };
        let answer = client.trigger_savepoint(request).await.unwrap();
        assert_eq!(answer.into_inner().failure, None);
    };
    task_manager.on_checkpoint(OnCheckpoint::Decline);
    stop("stop-1").await;
    let has_ended = |status: &cluster::JobStatus| status.savepoints.iter().any(|made| made.ended_ms > 0);
    let status = until_status(&running, job, has_ended).await;
    let failure = status.savepoints[0].failure.clone().unwrap();
    assert!(failure.message.contains("the disk is full"), "{failure:?}");
    assert_eq!(status.savepoints[0].path, "");
    assert_eq!(
        (status.state.as_str(), status.tasks_running, status.restarts),
        ("RUNNING", 4, 0)
    );

    task_manager.on_checkpoint(OnCheckpoint::Acknowledge);
    stop("stop-2").await;
    let status = running.until(job, "FINISHED").await;
    let made = status
        .savepoints
        .iter()
        .find(|made| made.operation_id == "stop-2");
    assert!(path_of(&made.unwrap().path).join("_metadata").exists());
    assert_eq!(snapshots_in(&running.folder.path().join("savepoints")), 1);
}

async fn refused(running: &Running, restore: RestoreRequest) -> Failure {
    let request = JobRequest {
        package_uri: running
            .folder
            .path()
            .join("counts")
            .to_string_lossy()
            .into_owned(),
        restore,
        ..JobRequest::default()
    };
    let failure = running.handle.submit(request).await.unwrap_err();
    assert!(!failure.message.contains('\n'), "one line: {failure}");
    failure
}

fn from(path: &str) -> RestoreRequest {
    RestoreRequest {
        path: path.to_owned(),
        ..RestoreRequest::default()
    }
}

#[tokio::test]
async fn a_claimed_savepoint_goes_when_a_checkpoint_of_the_job_took_its_place() {
    let running = job_manager(&[], None).await;
    let _task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let path = stopped(&running, "counts").await;
    let job = submit(
        &running,
        "counts",
        &[
            ("execution.state-recovery.path", &path),
            ("execution.state-recovery.claim-mode", "CLAIM"),
            ("execution.checkpointing.interval", "20 ms"),
        ],
    )
    .await;
    let status = until_status(&running, job, |status| completed(status) >= 1).await;
    assert!(
        status.checkpoints.unwrap().latest_id > 1,
        "numbers go on from the savepoint's"
    );
    let gone = async {
        while path_of(&path).exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .expect("in time");
}

#[tokio::test]
async fn a_start_from_what_is_no_snapshot_is_refused_with_the_reason() {
    let running = job_manager(&[], None).await;
    let _task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let path = stopped(&running, "counts").await;
    let jobs = running.handle.snapshot().await.unwrap().jobs.len();

    let missing = refused(&running, from(&uri(&running, "nothing"))).await;
    assert!(
        missing.message.contains("/nothing/_metadata does not exist"),
        "{missing}"
    );
    let scheme = refused(&running, from("hdfs://host/s")).await;
    assert!(scheme.message.contains("hdfs"), "{scheme}");

    let file = path_of(&path).join("_metadata");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let damaged = refused(&running, from(&path)).await;
    assert!(
        damaged.message.contains(&format!("{path}/_metadata")),
        "{damaged}"
    );
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refused(&running, from(&path)).await;
    std::fs::write(&file, b"something else").unwrap();
    refused(&running, from(&path)).await;
    assert_eq!(
        running.handle.snapshot().await.unwrap().jobs.len(),
        jobs,
        "none was started"
    );
}

#[tokio::test]
async fn state_of_an_operator_that_is_gone_is_refused_unless_it_may_be_left_behind() {
    let running = job_manager(&[], None).await;
    let _task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let path = stopped(&running, "counts").await;
    // Another program under the same name: its keyed operator has another id.
    let directory = running.folder.path().join("counts");
    crate::testing::job_package_with(&directory, "counts", |graph| {
        graph.nodes[1].operator_id = "9".repeat(32);
    });
    let refusal = refused(&running, from(&path)).await;
    assert_eq!(refusal.class, thalweg_types::FailureClass::Fatal);
    assert!(refusal.message.contains("KeyedReduce"), "{refusal}");
    let request = JobRequest {
        package_uri: directory.to_string_lossy().into_owned(),
        restore: RestoreRequest {
            allow_non_restored_state: true,
            ..from(&path)
        },
        ..JobRequest::default()
    };
    running.handle.submit(request).await.unwrap();
}

#[tokio::test]
async fn an_application_that_can_not_start_from_its_state_says_so_in_its_status() {
    let folder = tempfile::tempdir().unwrap();
    job_package(folder.path(), "counts");
    let application = Application {
        package_uri: folder.path().to_string_lossy().into_owned(),
        ..Application::default()
    };
    let path = format!("{}/none", folder.path().display());
    let running = job_manager(&[("execution.state-recovery.path", &path)], Some(application)).await;
    let mut client = cluster_client(&running).await;
    let mut snapshots = watch(&mut client).await;
    let failed = until(&mut snapshots, |snapshot| snapshot.application_failure.is_some()).await;
    let failure = failed.application_failure.unwrap();
    assert_eq!(failure.class(), FailureClass::Fatal);
    assert!(
        failure.message.contains("/none/_metadata does not exist"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_job_whose_checkpoints_can_not_be_written_is_refused_before_it_starts() {
    let running = job_manager(&[], None).await;
    job_package(&running.folder.path().join("counts"), "counts");
    let request = |dir: Option<&str>| {
        let mut configuration = std::collections::BTreeMap::new();
        configuration.insert("execution.checkpointing.interval".to_owned(), "1 s".to_owned());
        configuration.extend(dir.map(|dir| ("execution.checkpointing.dir".to_owned(), dir.to_owned())));
        JobRequest {
            package_uri: running
                .folder
                .path()
                .join("counts")
                .to_string_lossy()
                .into_owned(),
            configuration,
            ..JobRequest::default()
        }
    };
    let refusal = running
        .handle
        .submit(request(Some("/proc/nothing")))
        .await
        .unwrap_err();
    assert!(
        refusal.message.contains("execution.checkpointing.dir") && refusal.message.contains("/proc/nothing"),
        "{refusal}"
    );
    let unset = running.handle.submit(request(None)).await.unwrap_err();
    assert!(unset.message.contains("execution.checkpointing.dir"), "{unset}");
    assert!(running.handle.snapshot().await.unwrap().jobs.is_empty());
}

#[tokio::test]
async fn a_job_manager_that_is_started_again_goes_on_from_its_applications_newest_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    job_package(folder.path(), "counts");
    let checkpoints = format!("file://{}/checkpoints", folder.path().display());
    let configuration = [
        ("execution.checkpointing.dir", checkpoints.as_str()),
        ("execution.checkpointing.interval", "20 ms"),
    ];
    let application = Application {
        package_uri: folder.path().to_string_lossy().into_owned(),
        operation_id: "start-1".to_owned(),
        ..Application::default()
    };
    let mut jobs = Vec::new();
    for start in 0..2 {
        let running = job_manager(&configuration, Some(application.clone())).await;
        let task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
        let mut client = cluster_client(&running).await;
        let mut snapshots = watch(&mut client).await;
        let is_completed =
            |snapshot: &ClusterSnapshot| snapshot.jobs.first().is_some_and(|job| completed(job) >= 1);
        let snapshot = until(&mut snapshots, is_completed).await;
        jobs.push(snapshot.jobs[0].job_id.clone());
        let from = task_manager
            .deployments()
            .iter()
            .map(restored_from)
            .max()
            .unwrap();
        assert_eq!(
            from > 0,
            start > 0,
            "the second starts from a checkpoint of the first"
        );
        drop(client);
        running.handle.shutdown().await;
    }
    assert_eq!(jobs[0], jobs[1]);
}

#[tokio::test]
async fn a_job_manager_that_is_started_again_goes_on_from_the_savepoint_that_stopped_its_application() {
    let folder = tempfile::tempdir().unwrap();
    job_package(folder.path(), "counts");
    let checkpoints = format!("file://{}/checkpoints", folder.path().display());
    let configuration = [
        ("execution.checkpointing.dir", checkpoints.as_str()),
        ("execution.checkpointing.interval", "20 ms"),
    ];
    let application = Application {
        package_uri: folder.path().to_string_lossy().into_owned(),
        operation_id: "start-1".to_owned(),
        ..Application::default()
    };
    let files = thalweg_storage::FileSystems::new(thalweg_types::config::Configuration::default());
    let running = job_manager(&configuration, Some(application.clone())).await;
    let task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let mut client = cluster_client(&running).await;
    let mut snapshots = watch(&mut client).await;
    let is_completed =
        |snapshot: &ClusterSnapshot| snapshot.jobs.first().is_some_and(|job| completed(job) >= 1);
    let job_id = until(&mut snapshots, is_completed).await.jobs[0].job_id.clone();
    let request = TriggerSavepointRequest {
        job_id: job_id.clone(),
        operation_id: "stop-1".to_owned(),
        target_directory: format!("file://{}/savepoints", folder.path().display()),
        stop: true,
        drain: false,
    };
    client.trigger_savepoint(request).await.unwrap();
    let status = running.until(job_id.parse().unwrap(), "FINISHED").await;
    let savepoint = crate::snapshot::open(&files, &status.savepoints[0].path)
        .await
        .unwrap();
    drop((task_manager, client, snapshots));
    running.handle.shutdown().await;

    let running = job_manager(&configuration, Some(application)).await;
    let task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let mut client = cluster_client(&running).await;
    let mut snapshots = watch(&mut client).await;
    let runs = |snapshot: &ClusterSnapshot| snapshot.jobs.first().is_some_and(|job| job.tasks_running > 0);
    assert_eq!(until(&mut snapshots, runs).await.jobs[0].job_id, job_id);
    let from: Vec<u64> = task_manager.deployments().iter().map(restored_from).collect();
    let id = savepoint.metadata.checkpoint_id;
    assert!(id > 1 && from.iter().all(|from| *from == id), "{from:?} is {id}");
}

#[tokio::test]
async fn a_jobs_folder_stands_for_its_newest_checkpoint_that_can_be_read() {
    let running = job_manager(&[], None).await;
    let _task_manager = ScriptedTaskManager::connect(&running, "tm", 2).await;
    let keep = (
        "execution.checkpointing.externalized-checkpoint-retention",
        "RETAIN_ON_CANCELLATION",
    );
    let many = ("execution.checkpointing.num-retained", "3");
    let interval = ("execution.checkpointing.interval", "20 ms");
    let job = submit(&running, "counts", &[keep, many, interval]).await;
    until_status(&running, job, |status| completed(status) >= 3).await;
    running.handle.cancel(job).await.unwrap();
    until_status(&running, job, |status| status.state == "CANCELED").await;
    let folder = format!("{}/{job}", uri(&running, "checkpoints"));
    let files = thalweg_storage::FileSystems::new(thalweg_types::config::Configuration::default());
    let newest = crate::snapshot::open(&files, &folder).await.unwrap();
    std::fs::write(path_of(&newest.folder).join("_metadata"), "torn").unwrap();
    let before = crate::snapshot::open(&files, &folder).await.unwrap();
    assert!(before.metadata.checkpoint_id < newest.metadata.checkpoint_id);
}
