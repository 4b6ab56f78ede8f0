//! A job's state outlives its pods: savepoints, checkpoints, and what is lost in between. Runs in `make test-full`.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use thalweg_crds::{FlinkApplication, FlinkStateSnapshot, SnapshotState};
use thalweg_e2e::{TestNamespace, eventually, kafka, manifest, with_namespace};

use crate::high_availability::{session, word_count_in_session};
use crate::steps::*;

const PARTITIONS: i32 = 4;

/// Word count with checkpoints on the cluster's S3.
fn application(ns: &TestNamespace, topics: &WordCountTopics, parallelism: u32, upgrade_mode: &str) -> Value {
    let args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
    let mut application = manifest::application(&ns.around, "wc", "word-count", parallelism, &args);
    let spec = &mut application["spec"];
    spec["job"]["upgradeMode"] = upgrade_mode.into();
    let s3 = &ns.around.s3;
    let mut configuration = s3.configuration();
    let own = json!({
        "taskmanager.numberOfTaskSlots": "2",
        "execution.checkpointing.interval": "1 s",
        "execution.checkpointing.dir": s3.uri(&format!("{}/checkpoints", ns.name)),
        "execution.checkpointing.savepoint-dir": s3.uri(&format!("{}/savepoints", ns.name)),
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "100",
        "restart-strategy.fixed-delay.delay": "100 ms",
    });
    configuration.extend(own.as_object().cloned().unwrap_or_default());
    spec["flinkConfiguration"] = configuration.into();
    application
}

/// More lines, which the counts must have in the end.
fn add_lines(ns: &TestNamespace, topics: &mut WordCountTopics, count: usize) -> anyhow::Result<()> {
    let more: Vec<String> = topics.lines.iter().take(count).cloned().collect();
    let lines = more.iter().map(String::as_str);
    kafka::produce_lines(&ns.around.kafka, &topics.input, PARTITIONS, lines)?;
    topics.lines.extend(more);
    Ok(())
}

async fn exact_counts(ns: &TestNamespace, topics: &WordCountTopics) -> anyhow::Result<()> {
    eventually("the counts to be exact", || async {
        expect_exact_counts(ns, topics)
    })
    .await
}

/// The job has completed a checkpoint newer than this one; its number.
async fn checkpoint_after(ns: &TestNamespace, id: i64) -> anyhow::Result<i64> {
    eventually(&format!("a checkpoint after {id}"), || async {
        let status = ns
            .api::<FlinkApplication>()
            .get("wc")
            .await?
            .status
            .unwrap_or_default();
        let job = status.job_status.context("no job yet")?;
        let newest = job.checkpoint.context("no checkpoint yet")?.id;
        ensure!(newest > id, "the newest is {newest}");
        Ok(newest)
    })
    .await
}

async fn restarted(ns: &TestNamespace) -> anyhow::Result<()> {
    eventually("the restart to show in status", || async {
        let status = ns
            .api::<FlinkApplication>()
            .get("wc")
            .await?
            .status
            .unwrap_or_default();
        let restarts = status.job_status.and_then(|job| job.restarts);
        ensure!(restarts.unwrap_or(0) >= 1, "no restart yet");
        Ok(())
    })
    .await?;
    application_in_state(ns, "wc", "RUNNING").await?;
    Ok(())
}

/// The job went on from a checkpoint, not from the beginning.
async fn restored_from_a_checkpoint(ns: &TestNamespace) -> anyhow::Result<()> {
    eventually("the restored checkpoint to show in metrics", || async {
        let selector = format!(
            "flink_jobmanager_job_lastCheckpointRestoreTimestamp{{namespace=\"{}\"}}",
            ns.name
        );
        ensure!(query(ns, &selector).await? > 0.0, "none was restored");
        Ok(())
    })
    .await
}

/// Suspended with a savepoint, lines come meanwhile, resumed with another parallelism: each line counts once.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_suspended_with_a_savepoint_goes_on_from_it_with_another_parallelism() -> anyhow::Result<()> {
    with_namespace("savepoint", |ns| async move {
        let mut topics = word_count_topics(&ns, 20_000, PARTITIONS).await?;
        ns.apply(&application(&ns, &topics, 2, "savepoint")).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        exact_counts(&ns, &topics).await?;
        checkpoint_after(&ns, 0).await?;

        let mut suspended = application(&ns, &topics, 2, "savepoint");
        suspended["spec"]["job"]["state"] = "suspended".into();
        ns.apply(&suspended).await?;
        let resting = application_in_state(&ns, "wc", "SUSPENDED").await?;
        let job = resting.status.unwrap_or_default().job_status.unwrap_or_default();
        let path = job.upgrade_savepoint_path.context("status has the savepoint")?;
        let folder = ns.around.s3.uri(&format!("{}/savepoints", ns.name));
        ensure!(
            path.starts_with(&folder),
            "the savepoint is in its folder: {path}"
        );
        eventually("its pods to go", || async {
            let pods = ns.pods("app.kubernetes.io/component").await?;
            ensure!(pods.is_empty(), "{} are left", pods.len());
            Ok(())
        })
        .await?;
        add_lines(&ns, &mut topics, 5_000)?;

        ns.apply(&application(&ns, &topics, 4, "savepoint")).await?;
        let resumed = application_in_state(&ns, "wc", "RUNNING").await?;
        let restored = resumed.status.unwrap_or_default().recovery.restore_path;
        ensure!(
            restored.as_deref() == Some(path.as_str()),
            "it went on from {restored:?}, not {path}"
        );
        exact_counts(&ns, &topics).await?;
        let reasons = event_reasons(&ns, "wc").await?;
        for reason in ["SavepointTriggered", "SavepointCompleted", "RestoringFrom"] {
            ensure!(
                reasons.iter().any(|one| one == reason),
                "{reason} is not among {reasons:?}"
            );
        }
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// A change of the spec with upgrade mode last-state: the new start goes on from the checkpoints of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_by_last_state_goes_on_from_the_newest_checkpoint() -> anyhow::Result<()> {
    with_namespace("last-state", |ns| async move {
        let mut topics = word_count_topics(&ns, 20_000, PARTITIONS).await?;
        ns.apply(&application(&ns, &topics, 4, "last-state")).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        exact_counts(&ns, &topics).await?;
        checkpoint_after(&ns, 0).await?;
        ns.apply(&application(&ns, &topics, 2, "last-state")).await?;
        eventually("the new start to go on from a checkpoint", || async {
            let status = ns
                .api::<FlinkApplication>()
                .get("wc")
                .await?
                .status
                .unwrap_or_default();
            ensure!(status.recovery.restore_path.is_some(), "not started again yet");
            Ok(())
        })
        .await?;
        add_lines(&ns, &mut topics, 5_000)?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        exact_counts(&ns, &topics).await?;
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// A deleted TaskManager pod costs a restart from the newest checkpoint and no line.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_task_manager_pod_loses_no_state() -> anyhow::Result<()> {
    with_namespace("state-kill", |ns| async move {
        let mut topics = word_count_topics(&ns, 50_000, PARTITIONS).await?;
        ns.apply(&application(&ns, &topics, 4, "savepoint")).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        let before = checkpoint_after(&ns, 0).await?;
        let pods = ns.pods("app.kubernetes.io/component=taskmanager").await?;
        let victim = pods.first().context("there is a TaskManager pod")?.name_any();
        ns.api::<Pod>()
            .delete(&victim, &DeleteParams::default().grace_period(0))
            .await?;
        restarted(&ns).await?;
        restored_from_a_checkpoint(&ns).await?;
        add_lines(&ns, &mut topics, 5_000)?;
        exact_counts(&ns, &topics).await?;
        checkpoint_after(&ns, before).await?;
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// TaskManagers that go over their ephemeral storage are evicted; once they have room again, each line has counted once.
#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_task_manager_pod_loses_no_state() -> anyhow::Result<()> {
    with_namespace("state-evict", |ns| async move {
        let mut topics = word_count_topics(&ns, 20_000, PARTITIONS).await?;
        let roomy = application(&ns, &topics, 2, "savepoint");
        ns.apply(&roomy).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        exact_counts(&ns, &topics).await?;
        checkpoint_after(&ns, 0).await?;

        // A log of everything, which counts as the pod's storage, and room for hardly any.
        let mut tight = roomy.clone();
        tight["spec"]["taskManager"]["resource"]["ephemeralStorage"] = "1m".into();
        tight["spec"]["taskManager"]["podTemplate"] = json!({"spec": {"containers": [{
            "name": "flink-main-container", "env": [{"name": "RUST_LOG", "value": "trace"}],
        }]}});
        ns.apply(&tight).await?;
        add_lines(&ns, &mut topics, 5_000)?;
        eventually("a TaskManager pod to be evicted", || async {
            // By its event: the pod itself is replaced at once.
            let events = ns.api::<Event>().list(&ListParams::default()).await?;
            let evicted = events
                .iter()
                .any(|event| event.reason.as_deref() == Some("Evicted"));
            ensure!(evicted, "not yet");
            Ok(())
        })
        .await?;
        ns.apply(&roomy).await?;
        add_lines(&ns, &mut topics, 5_000)?;
        exact_counts(&ns, &topics).await?;
        restarted(&ns).await?;
        restored_from_a_checkpoint(&ns).await?;
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// The snapshots of `wc` that were taken for this reason, all of them complete.
async fn completed_snapshots(
    ns: &TestNamespace,
    trigger_type: &str,
) -> anyhow::Result<Vec<FlinkStateSnapshot>> {
    let labels = format!("job-reference.name=wc,snapshot.trigger-type={trigger_type}");
    eventually(&format!("a completed snapshot, {trigger_type}"), || async {
        let found = ns
            .api::<FlinkStateSnapshot>()
            .list(&ListParams::default().labels(&labels))
            .await?
            .items;
        let done = |one: &FlinkStateSnapshot| {
            let status = one.status.as_ref();
            status.and_then(|status| status.state) == Some(SnapshotState::Completed)
        };
        ensure!(!found.is_empty() && found.iter().all(done), "not yet");
        Ok(found)
    })
    .await
}

fn path_of(snapshot: &FlinkStateSnapshot) -> anyhow::Result<String> {
    let status = snapshot.status.clone().unwrap_or_default();
    status.path.context("a complete snapshot has a path")
}

/// A savepoint by a resource, one by a nonce and one at the deletion; the job starts again from the first, with another parallelism and
/// each line counted once; and a savepoint goes with its resource.
#[tokio::test(flavor = "multi_thread")]
async fn savepoints_are_taken_restored_and_disposed_of_as_resources() -> anyhow::Result<()> {
    with_namespace("snapshot", |ns| async move {
        let mut topics = word_count_topics(&ns, 20_000, PARTITIONS).await?;
        let mut first = application(&ns, &topics, 2, "savepoint");
        first["spec"]["flinkConfiguration"]["kubernetes.operator.job.savepoint-on-deletion"] = "true".into();
        ns.apply(&first).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        eventually("the first counts", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;
        checkpoint_after(&ns, 0).await?;

        ns.apply(&json!({
            "apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkStateSnapshot", "metadata": {"name": "by-hand"},
            "spec": {"jobReference": {"kind": "FlinkApplication", "name": "wc"}, "savepoint": {}, "backoffLimit": 2},
        }))
        .await?;
        let by_hand = path_of(&completed_snapshots(&ns, "MANUAL").await?[0])?;
        let folder = ns.around.s3.uri(&format!("{}/savepoints/savepoint-", ns.name));
        ensure!(by_hand.starts_with(&folder), "the savepoint is at {by_hand}");
        ensure!(
            ns.around.s3.exists(&format!("{by_hand}/_metadata")).await?,
            "{by_hand} is in storage"
        );
        let reasons = event_reasons(&ns, "by-hand").await?;
        for reason in ["SnapshotTriggered", "SnapshotCompleted"] {
            ensure!(reasons.iter().any(|one| one == reason), "{reason}: {reasons:?}");
        }

        first["spec"]["job"]["checkpointTriggerNonce"] = 1.into();
        ns.apply(&first).await?;
        eventually("the checkpoint of the nonce", || async {
            let all = completed_snapshots(&ns, "MANUAL").await?;
            let checkpoint = all.iter().find(|one| one.spec.checkpoint.is_some());
            let path = path_of(checkpoint.context("there is none yet")?)?;
            ensure!(path.contains("/chk-"), "it is at {path}");
            Ok(())
        })
        .await?;

        delete_application_leaves_nothing(&ns, "wc").await?;
        let at_deletion = path_of(&completed_snapshots(&ns, "UPGRADE").await?[0])?;
        ensure!(at_deletion != by_hand, "it has a savepoint of its own");
        add_lines(&ns, &mut topics, 5_000)?;

        let mut second = application(&ns, &topics, 4, "savepoint");
        second["spec"]["job"]["initialSavepointPath"] = by_hand.as_str().into();
        ns.apply(&second).await?;
        let resumed = application_in_state(&ns, "wc", "RUNNING").await?;
        let restored = resumed.status.unwrap_or_default().recovery.restore_path;
        ensure!(restored.as_deref() == Some(by_hand.as_str()), "from {restored:?}");
        eventually("the counts to go on", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;

        checkpoint_after(&ns, 0).await?;
        ns.api::<FlinkStateSnapshot>()
            .delete("by-hand", &DeleteParams::default())
            .await?;
        eventually("the savepoint to go with its resource", || async {
            let left = ns.api::<FlinkStateSnapshot>().get_opt("by-hand").await?;
            ensure!(left.is_none(), "the resource is still there");
            let stored = ns.around.s3.exists(&format!("{by_hand}/_metadata")).await?;
            ensure!(!stored, "{by_hand} is still in storage");
            Ok(())
        })
        .await?;
        ensure!(
            ns.around.s3.exists(&format!("{at_deletion}/_metadata")).await?,
            "the operator's own stays"
        );
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// A TaskManager's container is killed and its pod stays: the state that it keeps on its disk is there, in a pod whose root file
/// system is read-only, and so are the local copies of its checkpoints.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_task_manager_container_finds_its_local_state_again() -> anyhow::Result<()> {
    with_namespace("state-local", |ns| async move {
        let mut topics = word_count_topics(&ns, 20_000, PARTITIONS).await?;
        let mut resource = application(&ns, &topics, 4, "savepoint");
        let configuration = &mut resource["spec"]["flinkConfiguration"];
        configuration["state.backend.type"] = "rocksdb".into();
        configuration["execution.state-recovery.from-local"] = "true".into();
        resource["spec"]["taskManager"]["resource"]["ephemeralStorage"] = "2Gi".into();
        ns.apply(&resource).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        exact_counts(&ns, &topics).await?;
        let before = checkpoint_after(&ns, 0).await?;
        let labels = "app.kubernetes.io/component=taskmanager";
        let victim = ns
            .pods(labels)
            .await?
            .into_iter()
            .next()
            .context("a TaskManager")?;
        kill_container(&victim)?;
        restarted(&ns).await?;
        restored_from_a_checkpoint(&ns).await?;
        add_lines(&ns, &mut topics, 5_000)?;
        exact_counts(&ns, &topics).await?;
        checkpoint_after(&ns, before).await?;
        let after = ns.api::<Pod>().get(&victim.name_any()).await?;
        ensure!(after.uid() == victim.uid(), "the pod is the same");
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// Snapshots of a job in a session: by its nonce and by a resource of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_jobs_savepoints_are_taken_by_nonce_and_as_resources() -> anyhow::Result<()> {
    with_namespace("session-snapshot", |ns| async move {
        ns.apply(&session(&ns, 1)).await?;
        session_ready(&ns, "shared", 2).await?;
        let topics = word_count_topics(&ns, 10_000, PARTITIONS).await?;
        let mut job = word_count_in_session(&ns, "wc", &topics);
        job["spec"]["flinkConfiguration"] = json!({
            "execution.checkpointing.savepoint-dir": ns.around.s3.uri(&format!("{}/savepoints", ns.name)),
        });
        ns.apply(&job).await?;
        session_job_in_state(&ns, "wc", "RUNNING").await?;
        eventually("the first counts", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;

        job["spec"]["job"]["savepointTriggerNonce"] = 1.into();
        ns.apply(&job).await?;
        let by_nonce = path_of(&completed_snapshots(&ns, "MANUAL").await?[0])?;
        ns.apply(&json!({
            "apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkStateSnapshot", "metadata": {"name": "by-hand"},
            "spec": {"jobReference": {"kind": "FlinkSessionJob", "name": "wc"}, "savepoint": {}, "backoffLimit": 2},
        }))
        .await?;
        eventually("the savepoint of the resource", || async {
            let found = ns.api::<FlinkStateSnapshot>().get("by-hand").await?;
            let path = path_of(&found)?;
            ensure!(path != by_nonce, "it is another one");
            Ok(())
        })
        .await?;
        let all = completed_snapshots(&ns, "MANUAL").await?;
        ensure!(all.len() == 2, "{} snapshots", all.len());
        for snapshot in &all {
            let path = path_of(snapshot)?;
            let stored = ns.around.s3.exists(&format!("{path}/_metadata")).await?;
            ensure!(stored, "{path} is in storage");
        }
        let after = session_job_in_state(&ns, "wc", "RUNNING").await?;
        let restarts = after.status.and_then(|status| status.job_status).and_then(|job| job.restarts);
        ensure!(restarts.unwrap_or(0) == 0, "{restarts:?} restarts");
        Ok(())
    })
    .await
}
