//! Several JobManagers on one folder: one leads, the others stand by, and a job goes on under the next one.

use std::path::Path;
use std::sync::Arc;

use thalweg_proto::cluster::v1::{RetireRequest, TriggerSavepointRequest};
use thalweg_proto::control::v1::LeaderRequest;
use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_types::Failure;

use super::*;
use crate::high_availability::{Election, ElectionEvent, ElectionEvents};
use crate::testing::{OnCheckpoint, configured_job_manager};

const QUICKLY: [(&str, &str); 5] = [
    ("high-availability.type", "storage"),
    ("jobmanager.rpc.address", "127.0.0.1"),
    ("thalweg.high-availability.leader-timeout", "600 ms"),
    ("thalweg.high-availability.log-timeout", "5 s"),
    ("thalweg.jobmanager.reconciliation-timeout", "200 ms"),
];

/// Advice that a test gives.
struct Advice(ElectionEvent);

impl Election for Advice {
    fn campaign(&self, _: Candidate) -> ElectionEvents {
        let event = self.0.clone();
        let again = futures::stream::unfold(event, |event| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((event.clone(), event))
        });
        Box::pin(again)
    }
}

/// A folder for the log, one for checkpoints and one for packages, of all JobManagers of a test.
struct Shared {
    folder: tempfile::TempDir,
}

impl Shared {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}/{name}", self.folder.path().display())
    }

    async fn start(&self, extra: &[(&str, &str)], election: Option<Arc<dyn Election>>) -> Running {
        let storage = self.uri("high-availability");
        let mut configuration = QUICKLY.to_vec();
        configuration.push(("high-availability.storageDir", storage.as_str()));
        configuration.extend(extra);
        configured_job_manager(&configuration, None, election).await
    }

    /// One that leads already.
    async fn leader(&self) -> Running {
        let running = self.start(&[], None).await;
        until_it_leads(&running).await;
        running
    }

    async fn submit(&self, running: &Running, operation_id: &str, extra: &[(&str, &str)]) -> JobId {
        let directory = self.folder.path().join("package");
        job_package(&directory, "counts");
        let checkpoints = self.uri("checkpoints");
        let mut configuration = vec![("execution.checkpointing.dir", checkpoints.as_str())];
        configuration.extend(RESTART);
        configuration.extend(extra);
        let entries = configuration
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let request = SubmitJobRequest {
            operation_id: operation_id.to_owned(),
            package: Some(PackageReference {
                uri: directory.to_string_lossy().into_owned(),
                sha256: String::new(),
                sql: String::new(),
            }),
            parallelism: 2,
            configuration: entries.collect(),
            ..SubmitJobRequest::default()
        };
        let answer = cluster_client(running)
            .await
            .submit_job(request)
            .await
            .unwrap()
            .into_inner();
        match answer.result.unwrap() {
            submit_job_response::Result::JobId(job) => job.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn log_of(&self, job: JobId) -> std::path::PathBuf {
        self.folder
            .path()
            .join(format!("high-availability/default/jobs/{job}"))
    }
}

async fn until_it_leads(running: &Running) {
    let leads = async {
        while running.handle.epoch() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), leads)
        .await
        .expect("in time");
}

async fn until_status(
    running: &Running,
    job: JobId,
    wanted: impl Fn(&cluster::JobStatus) -> bool,
) -> cluster::JobStatus {
    let search = async {
        loop {
            let snapshot = running.handle.snapshot().await.unwrap();
            let found = snapshot
                .jobs
                .into_iter()
                .find(|status| status.job_id == job.to_string());
            if let Some(status) = found.filter(|status| wanted(status)) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), search)
        .await
        .expect("in time")
}

fn latest(status: &cluster::JobStatus) -> u64 {
    status
        .checkpoints
        .as_ref()
        .map_or(0, |checkpoints| checkpoints.latest_id)
}

/// The number of the newest restore of any task.
fn restored(task_manager: &ScriptedTaskManager) -> Option<u64> {
    let restores = task_manager
        .deployments()
        .into_iter()
        .filter_map(|task| task.restore);
    restores.map(|restore| restore.checkpoint_id).max()
}

async fn get(running: &Running, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", running.handle.rest_address());
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_standby_says_who_leads_refuses_what_leaders_do_and_hands_rest_requests_on() {
    let shared = Shared::new();
    let leader = shared.leader().await;
    let standby = shared.start(&[], None).await;
    let address = leader.handle.rpc_address();
    let mut client = JobManagerClient::connect(format!("http://{}", standby.handle.rpc_address()))
        .await
        .unwrap();
    let known = async {
        loop {
            let answer = client.leader(LeaderRequest {}).await.unwrap().into_inner();
            if answer.leader_epoch == 1 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), known)
        .await
        .unwrap();
    assert_eq!(
        (answer.is_leader, answer.epoch, answer.rpc_address),
        (false, 0, address.to_string())
    );
    let request = WatchClusterRequest {
        protocol_version: thalweg_proto::CLUSTER_PROTOCOL_VERSION,
    };
    let refusal = cluster_client(&standby)
        .await
        .watch_cluster(request)
        .await
        .unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::FailedPrecondition);
    assert_eq!(
        refusal.message(),
        format!("standby; the leader is {address} (epoch 1)")
    );

    let job = shared.submit(&leader, "op", &[]).await;
    let (status, body) = get(&standby, &format!("/v1/jobs/{job}/status")).await;
    assert_eq!(
        (status, get(&leader, &format!("/jobs/{job}/status")).await.1),
        (200, body)
    );
    let missing = get(&standby, "/jobs/00000000000000000000000000000009").await;
    assert_eq!(missing.0, 404);
    let metrics = async |running: &Running| {
        let url = format!("http://{}/metrics", running.handle.metrics_address());
        reqwest::get(url).await.unwrap().text().await.unwrap()
    };
    assert!(
        metrics(&leader)
            .await
            .contains("flink_jobmanager_isLeader{host=\"here\"} 1")
    );
    assert!(
        metrics(&standby)
            .await
            .contains("flink_jobmanager_isLeader{host=\"here\"} 0")
    );
}

#[tokio::test]
async fn while_nobody_leads_rest_says_so_in_flinks_words() {
    let shared = Shared::new();
    let never: Arc<dyn Election> = Arc::new(Advice(ElectionEvent::Revoked));
    let standby = shared.start(&[], Some(never)).await;
    let (status, body) = get(&standby, "/overview").await;
    assert_eq!(status, 503);
    assert!(body.contains("ongoing leader election"), "{body}");
}

#[tokio::test]
async fn a_job_goes_on_under_the_next_leader_from_its_newest_checkpoint() {
    let shared = Shared::new();
    let first = shared.leader().await;
    let second = shared.start(&[], None).await;
    let task_manager = ScriptedTaskManager::connect(&first, "tm", 2).await;
    let job = shared
        .submit(&first, "op", &[("execution.checkpointing.interval", "20 ms")])
        .await;
    let savepoint = TriggerSavepointRequest {
        job_id: job.to_string(),
        operation_id: "savepoint".to_owned(),
        target_directory: shared.uri("savepoints"),
        ..TriggerSavepointRequest::default()
    };
    until_status(&first, job, |status| latest(status) >= 2).await;
    let asked = cluster_client(&first)
        .await
        .trigger_savepoint(savepoint.clone())
        .await
        .unwrap();
    assert_eq!(asked.into_inner().failure, None);
    let has_ended = |status: &cluster::JobStatus| status.savepoints.iter().any(|made| made.ended_ms > 0);
    let made = until_status(&first, job, has_ended).await.savepoints;
    let before = until_status(&first, job, |status| latest(status) > 2).await;
    task_manager.kill();
    drop(first);

    until_it_leads(&second).await;
    assert_eq!(second.handle.epoch(), 2);
    let waiting = until_status(&second, job, |status| status.state != "RECONCILING").await;
    assert_eq!(
        (waiting.operation_id.as_str(), waiting.name.as_str()),
        ("op", "counts")
    );
    assert_eq!(waiting.start_time_ms / 60_000, before.start_time_ms / 60_000);
    assert_eq!(
        waiting.savepoints, made,
        "operations are known under every leader"
    );
    assert_eq!(
        shared.submit(&second, "op", &[]).await,
        job,
        "one operation, one job"
    );
    let again = cluster_client(&second)
        .await
        .trigger_savepoint(savepoint)
        .await
        .unwrap();
    assert_eq!(again.into_inner().failure, None);

    let task_manager = ScriptedTaskManager::connect(&second, "tm", 2).await;
    let goes_on = |status: &cluster::JobStatus| status.tasks_running > 0 && latest(status) > latest(&before);
    let after = until_status(&second, job, goes_on).await;
    assert!(restored(&task_manager).unwrap() >= latest(&before), "{after:?}");
    assert_eq!(after.savepoints, made, "no second savepoint was made");
}

#[tokio::test]
async fn how_jobs_ended_is_known_to_the_next_leader_until_it_expires() {
    let shared = Shared::new();
    let first = shared.leader().await;
    let task_manager = ScriptedTaskManager::connect(&first, "tm", 4).await;
    let canceled = shared.submit(&first, "to-cancel", &[]).await;
    let finished = shared.submit(&first, "to-finish", &[]).await;
    for job in [canceled, finished] {
        until_status(&first, job, |status| status.state == "RUNNING").await;
    }
    first.handle.cancel(canceled).await.unwrap();
    until_status(&first, canceled, |status| status.state == "CANCELED").await;
    task_manager.finish_all(7).await;
    let before = until_status(&first, finished, |status| status.state == "FINISHED").await;
    for job in [canceled, finished] {
        let log = shared.log_of(job);
        let has_result = || std::fs::read_dir(&log).unwrap().count() >= 2;
        while !has_result() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    drop(first);

    let second = shared.start(&[("jobstore.max-capacity", "1")], None).await;
    until_it_leads(&second).await;
    let after = until_status(&second, finished, |_| true).await;
    assert_eq!(
        (after.state.as_str(), after.state_since_ms),
        ("FINISHED", before.state_since_ms)
    );
    let (status, body) = get(&second, &format!("/jobs/{finished}")).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"state\":\"FINISHED\""), "{body}");
    assert_eq!(
        shared.submit(&second, "to-finish", &[]).await,
        finished,
        "it does not run again"
    );
    // One is kept.
    while shared
        .log_of(canceled)
        .read_dir()
        .is_ok_and(|mut files| files.next().is_some())
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(second.handle.watch_job(canceled).await.unwrap().is_none());
}

#[tokio::test]
async fn a_cancel_that_was_answered_holds_under_the_next_leader() {
    let shared = Shared::new();
    let first = shared.leader().await;
    let task_manager = ScriptedTaskManager::connect(&first, "tm", 2).await;
    let job = shared.submit(&first, "op", &[]).await;
    until_status(&first, job, |status| status.state == "RUNNING").await;
    // It answers nothing any more.
    task_manager.kill();
    first.handle.cancel(job).await.unwrap();
    drop(first);
    let second = shared.leader().await;
    until_status(&second, job, |status| status.state == "CANCELED").await;
}

#[tokio::test]
async fn a_leader_that_was_overtaken_commits_nothing_more_and_says_why() {
    let shared = Shared::new();
    let mut first = shared.leader().await;
    let task_manager = ScriptedTaskManager::connect(&first, "tm", 2).await;
    let job = shared
        .submit(&first, "op", &[("execution.checkpointing.interval", "20 ms")])
        .await;
    until_status(&first, job, |status| latest(status) >= 1).await;
    let at_once: Arc<dyn Election> = Arc::new(Advice(ElectionEvent::Granted));
    let second = shared.start(&[], Some(at_once)).await;
    let reason = tokio::time::timeout(Duration::from_secs(60), first.handle.ended())
        .await
        .unwrap();
    assert!(reason.contains("this JobManager leads no longer"), "{reason}");
    let taken_over = until_status(&second, job, |status| latest(status) > 0).await;
    let commands = task_manager.ended().await;
    let committed = commands.iter().filter_map(|command| match command {
        Command::NotifyCheckpoint(notify) if notify.completed => Some(notify.checkpoint_id),
        _ => None,
    });
    let committed = committed.max().unwrap();
    assert!(
        committed <= latest(&taken_over),
        "{committed} was committed, {taken_over:?}"
    );
}

#[tokio::test]
async fn a_standby_with_another_configuration_ends_and_names_the_key() {
    let shared = Shared::new();
    let _leader = shared.leader().await;
    let mut standby = shared.start(&[("parallelism.default", "7")], None).await;
    let reason = tokio::time::timeout(Duration::from_secs(60), standby.handle.ended())
        .await
        .unwrap();
    assert!(reason.contains("\"parallelism.default\""), "{reason}");
}

#[tokio::test]
async fn a_damaged_log_costs_its_own_job_only() {
    let shared = Shared::new();
    let first = shared.leader().await;
    let damaged = shared.submit(&first, "damaged", &[]).await;
    let gone = shared.submit(&first, "gone", &[]).await;
    let good = shared.submit(&first, "good", &[]).await;
    drop(first);
    let record = |job: JobId, number: u64| shared.log_of(job).join(format!("{number:020}"));
    std::fs::write(record(damaged, 2), "a note").unwrap();
    std::fs::write(record(gone, 1), "a note").unwrap();

    let second = shared.leader().await;
    for (job, name) in [(damaged, "counts"), (gone, &*gone.to_string())] {
        let failed = until_status(&second, job, |status| status.state == "FAILED").await;
        assert_eq!(failed.name, name);
        let message = failed.last_failure.unwrap().message;
        let path = if job == damaged {
            record(job, 2)
        } else {
            record(job, 1)
        };
        assert!(message.contains(&*path.to_string_lossy()), "{message}");
    }
    until_status(&second, good, |status| status.state != "FAILED").await;
    assert!(record(damaged, 2).exists(), "the log stays as it is");
}

#[tokio::test]
async fn a_package_or_a_checkpoint_that_is_gone_fails_the_job_and_says_which() {
    let shared = Shared::new();
    let first = shared.leader().await;
    let task_manager = ScriptedTaskManager::connect(&first, "tm", 2).await;
    let job = shared
        .submit(&first, "op", &[("execution.checkpointing.interval", "20 ms")])
        .await;
    until_status(&first, job, |status| latest(status) >= 1).await;
    task_manager.kill();
    drop(first);
    let checkpoints = shared.folder.path().join(format!("checkpoints/{job}"));
    remove_when_quiet(&checkpoints).await;
    let second = shared.leader().await;
    let failed = until_status(&second, job, |status| status.state == "FAILED").await;
    let message = failed.last_failure.unwrap().message;
    assert!(message.contains("chk-"), "{message}");
}

#[tokio::test]
async fn a_package_that_is_gone_fails_the_job_and_leaves_its_log_as_it_is() {
    let shared = Shared::new();
    let first = shared.leader().await;
    let job = shared.submit(&first, "op", &[]).await;
    drop(first);
    let packages = shared.folder.path().join("high-availability/default/packages");
    std::fs::remove_dir_all(packages).unwrap();
    let second = shared.leader().await;
    let failed = until_status(&second, job, |status| status.state == "FAILED").await;
    let message = failed.last_failure.unwrap().message;
    assert!(message.contains("/packages/"), "{message}");
    assert!(shared.log_of(job).join(format!("{:020}", 1)).exists());
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}

/// The log is what says that a checkpoint is complete: a folder that a leader wrote and did not come to log never was one. It is
/// left where it is, since somebody may have copied it there, and its number is not used again.
#[tokio::test]
async fn a_checkpoint_folder_that_the_log_does_not_know_is_neither_restored_nor_touched() {
    const UNKNOWN: u64 = 100_000;
    let shared = Shared::new();
    let first = shared.leader().await;
    let task_manager = ScriptedTaskManager::connect(&first, "tm", 2).await;
    let job = shared
        .submit(&first, "op", &[("execution.checkpointing.interval", "20 ms")])
        .await;
    let known = until_status(&first, job, |status| latest(status) >= 2).await;
    task_manager.kill();
    drop(first);
    let folder = |number: u64| {
        shared
            .folder
            .path()
            .join(format!("checkpoints/{job}/chk-{number}/_metadata"))
    };
    let unknown = folder(UNKNOWN);
    std::fs::create_dir_all(unknown.parent().unwrap()).unwrap();
    std::fs::write(&unknown, "complete, for all that can be seen").unwrap();

    let second = shared.leader().await;
    let task_manager = ScriptedTaskManager::connect(&second, "tm", 2).await;
    let is_above = |status: &cluster::JobStatus| latest(status) > UNKNOWN + 2;
    until_status(&second, job, is_above).await;
    let from = task_manager.deployments()[0]
        .restore
        .clone()
        .unwrap()
        .checkpoint_id;
    assert!((latest(&known)..UNKNOWN).contains(&from), "{from}");
    assert!(unknown.exists());
}

#[tokio::test]
async fn a_job_whose_leader_dies_right_behind_the_savepoint_to_stop_with_goes_on_from_there_and_is_told_so() {
    let shared = Shared::new();
    let first = shared.leader().await;
    let task_manager = ScriptedTaskManager::connect(&first, "tm", 2).await;
    let job = shared
        .submit(&first, "op", &[("execution.checkpointing.interval", "20 ms")])
        .await;
    until_status(&first, job, |status| latest(status) >= 1).await;
    task_manager.on_checkpoint(OnCheckpoint::AcknowledgeAndRunOn);
    let stop = TriggerSavepointRequest {
        job_id: job.to_string(),
        operation_id: "stop".to_owned(),
        target_directory: shared.uri("savepoints"),
        stop: true,
        ..TriggerSavepointRequest::default()
    };
    let asked = cluster_client(&first).await.trigger_savepoint(stop.clone()).await;
    assert_eq!(asked.unwrap().into_inner().failure, None);
    let savepoint = async {
        loop {
            let told = task_manager.commands();
            let to_stop = told.iter().find_map(|command| match command {
                Command::TriggerCheckpoint(trigger) if trigger.options.as_ref()?.terminate => {
                    Some(trigger.checkpoint_id)
                }
                _ => None,
            });
            let completed = |command: &Command| matches!(command, Command::NotifyCheckpoint(notify) if notify.completed && Some(notify.checkpoint_id) == to_stop);
            if told.iter().any(completed) {
                return to_stop.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let savepoint = tokio::time::timeout(Duration::from_secs(60), savepoint)
        .await
        .unwrap();
    task_manager.kill();
    drop(first);

    let second = shared.leader().await;
    let task_manager = ScriptedTaskManager::connect(&second, "tm", 2).await;
    let status = until_status(&second, job, |status| latest(status) > savepoint).await;
    assert_eq!(
        task_manager.deployments()[0]
            .restore
            .as_ref()
            .unwrap()
            .checkpoint_id,
        savepoint,
        "what its sinks committed comes from nothing older"
    );
    let told = status.savepoints.iter().find(|made| made.operation_id == "stop");
    let failure = told.unwrap().failure.clone().unwrap();
    assert!(failure.message.contains("goes on from there"), "{failure:?}");
    assert!(failure.message.contains("/savepoints/savepoint-"), "{failure:?}");
    // The same operation again is answered, not done again.
    let again = cluster_client(&second).await.trigger_savepoint(stop).await;
    assert_eq!(again.unwrap().into_inner().failure, None);
    let later = until_status(&second, job, |now| latest(now) > latest(&status)).await;
    assert_eq!((later.savepoints.len(), later.state.as_str()), (1, "RUNNING"));
}

#[tokio::test]
async fn a_cluster_that_is_deleted_leaves_nothing_and_nobody_leads_it_again() {
    let shared = Shared::new();
    let leader = shared.leader().await;
    let mut standby = shared.start(&[], None).await;
    let job = shared.submit(&leader, "op", &[]).await;
    let mut client = cluster_client(&leader).await;
    let mut retire = async || {
        let answer = client.retire(RetireRequest {}).await;
        answer.unwrap().into_inner().failure
    };
    let message = retire().await.unwrap().message;
    assert!(message.contains("1 of the jobs have not ended"), "{message}");
    leader.handle.cancel(job).await.unwrap();
    until_status(&leader, job, |status| status.state == "CANCELED").await;
    for _ in 0..2 {
        assert_eq!(retire().await, None);
    }
    let mut late = shared.start(&[], None).await;
    for waiting in [&mut standby, &mut late] {
        let reason = tokio::time::timeout(Duration::from_secs(60), waiting.handle.ended());
        let reason = reason.await.unwrap();
        assert!(reason.contains("its cluster was deleted"), "{reason}");
    }
    until_status(&leader, job, |status| status.state == "CANCELED").await;
    assert!(leader.handle.is_retired());
    let folder = shared.folder.path().join("high-availability");
    assert_eq!(files_below(&folder).len(), 1, "{:?}", files_below(&folder));
    leader.handle.shutdown().await;
    assert_eq!(files_below(&folder), Vec::<std::path::PathBuf>::new());
}

async fn remove_when_quiet(folder: &Path) {
    while folder.exists() {
        let _ = std::fs::remove_dir_all(folder);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_can_not_be_had_is_refused_at_start_in_one_line() {
    let shared = Shared::new();
    let storage = shared.uri("high-availability");
    let refused = async |changed: (&str, &str)| -> String {
        let mut configuration = QUICKLY.to_vec();
        configuration.push(("high-availability.storageDir", storage.as_str()));
        configuration.retain(|(key, _)| *key != changed.0);
        configuration.extend(Some(changed).filter(|(_, value)| !value.is_empty()));
        let refusal = crate::testing::refused_job_manager(&configuration).await;
        Failure::from_error(&refusal).message
    };
    for (changed, says) in [
        (
            ("high-availability.type", "zookeeper"),
            "there is no ZooKeeper here",
        ),
        (("high-availability.type", "kubernetes"), "needs Kubernetes"),
        (
            ("high-availability.storageDir", ""),
            "high-availability.storageDir is not",
        ),
        (
            ("high-availability.storageDir", "file:///proc/none"),
            "/proc/none",
        ),
        (("high-availability.cluster-id", "../x"), "\"../x\""),
        (("jobmanager.rpc.address", "a,b"), "--host"),
    ] {
        let message = refused(changed).await;
        assert!(message.contains(says), "{changed:?}: {message}");
    }
}
