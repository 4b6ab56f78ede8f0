//! Two JobManagers: the leader goes, its jobs stay. Runs in `make test-full`; what stops the API server runs alone.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use serde_json::Value;
use thalweg_crds::{ClusterStatus, FlinkApplication, FlinkSession, FlinkSessionJob, JobStatus};
use thalweg_e2e::{TestNamespace, eventually, manifest, with_namespace};

use crate::steps::*;

const JOB_MANAGERS: &str = "app.kubernetes.io/component=jobmanager";

/// Adds a standby, and the storage for what JobManagers leave for each other.
pub(crate) fn with_standby(ns: &TestNamespace, resource: &mut Value) {
    let spec = &mut resource["spec"];
    spec["jobManager"]["replicas"] = 2.into();
    let configuration = &mut spec["flinkConfiguration"];
    for (key, value) in ns.around.s3.configuration() {
        configuration[key] = value;
    }
    configuration["high-availability.type"] = "kubernetes".into();
    configuration["high-availability.storageDir"] = ns.around.s3.uri(&format!("{}/ha", ns.name)).into();
}

/// The pod that leads and its epoch, once it has a standby that is ready too.
pub(crate) async fn leader_with_standby(
    ns: &TestNamespace,
    status: impl AsyncFn() -> anyhow::Result<ClusterStatus>,
) -> anyhow::Result<(String, i64)> {
    eventually("a leader and a standby that is ready", || async {
        let told = status().await?.job_manager.context("no leader is told yet")?;
        let pods = ns.pods(JOB_MANAGERS).await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        ensure!(ready == 2, "{ready} of {} JobManagers are ready", pods.len());
        let leader = told.leader.context("no leader yet")?;
        ensure!(
            pods.iter().any(|pod| pod.name_any() == leader),
            "{leader} is no pod any more"
        );
        Ok((leader, told.epoch.context("no epoch yet")?))
    })
    .await
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|one| one.type_ == "Ready");
    ready.any(|one| one.status == "True")
}

/// Deletes the leader's pod without grace, and waits until the other one leads.
pub(crate) async fn kill_leader(
    ns: &TestNamespace,
    status: impl AsyncFn() -> anyhow::Result<ClusterStatus>,
) -> anyhow::Result<()> {
    let (leader, epoch) = leader_with_standby(ns, &status).await?;
    ns.api::<Pod>()
        .delete(&leader, &DeleteParams::default().grace_period(0))
        .await?;
    eventually("the standby to lead", || async {
        let told = status().await?.job_manager.unwrap_or_default();
        ensure!(told.epoch > Some(epoch), "epoch {epoch} is the newest");
        ensure!(told.leader.as_ref() != Some(&leader), "{leader} still leads");
        Ok(())
    })
    .await
}

pub(crate) async fn application_status(ns: &TestNamespace) -> anyhow::Result<ClusterStatus> {
    let found = ns.api::<FlinkApplication>().get("wc").await?;
    Ok(found.status.unwrap_or_default())
}

/// The same job as before, and no task of it was restarted.
pub(crate) fn ensure_untouched(before: &JobStatus, after: &JobStatus) -> anyhow::Result<()> {
    ensure!(
        after.job_id == before.job_id,
        "{:?} was {:?}",
        after.job_id,
        before.job_id
    );
    let restarts = after.restarts.unwrap_or(0);
    ensure!(restarts == 0, "{restarts} restarts: {:?}", after.last_failure);
    Ok(())
}

async fn session_status(ns: &TestNamespace) -> anyhow::Result<ClusterStatus> {
    let found = ns.api::<FlinkSession>().get("shared").await?;
    Ok(found.status.unwrap_or_default())
}

async fn session_job(ns: &TestNamespace, name: &str) -> anyhow::Result<JobStatus> {
    let found = session_job_in_state(ns, name, "RUNNING").await?;
    found.status.and_then(|status| status.job_status).context("a job")
}

/// The newest complete checkpoint of a job of the session.
async fn checkpoints_of_session_job_go_on(ns: &TestNamespace, name: &str) -> anyhow::Result<()> {
    let newest = async || {
        anyhow::Ok(
            session_job(ns, name)
                .await?
                .checkpoint
                .map_or(0, |checkpoint| checkpoint.id),
        )
    };
    let wanted = newest().await? + 3;
    eventually("checkpoints to go on", || async {
        let newest = newest().await?;
        ensure!(newest >= wanted, "the newest is {newest}, {wanted} is waited for");
        Ok(())
    })
    .await
}

/// A session whose jobs have checkpoints on S3.
pub(crate) fn session(ns: &TestNamespace, task_managers: u32) -> Value {
    let folder = |kind: &str| ns.around.s3.uri(&format!("{}/{kind}", ns.name));
    let mut session = manifest::session(&ns.around, "shared", task_managers);
    let configuration = &mut session["spec"]["flinkConfiguration"];
    configuration["execution.checkpointing.interval"] = "500 ms".into();
    configuration["execution.checkpointing.dir"] = folder("checkpoints").into();
    configuration["execution.checkpointing.savepoint-dir"] = folder("savepoints").into();
    for (key, value) in ns.around.s3.configuration() {
        configuration[key] = value;
    }
    session
}

/// Word count without end in that session.
pub(crate) fn word_count_in_session(ns: &TestNamespace, name: &str, topics: &WordCountTopics) -> Value {
    let args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
    manifest::session_job(name, "shared", "word-count", 2, &args)
}

/// Both jobs of a session go on in their tasks when the leading JobManager's pod is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_sessions_jobs_go_on_when_the_leading_job_manager_is_killed() -> anyhow::Result<()> {
    with_namespace("ha-session", |ns| async move {
        let mut resource = session(&ns, 2);
        with_standby(&ns, &mut resource);
        ns.apply(&resource).await?;
        session_ready(&ns, "shared", 4).await?;
        let mut jobs = Vec::new();
        for name in ["first", "second"] {
            let topics = word_count_topics(&ns, 10_000, 4).await?;
            ns.apply(&word_count_in_session(&ns, name, &topics)).await?;
            jobs.push((name, topics));
        }
        let mut before = Vec::new();
        for (name, topics) in &jobs {
            eventually("the first counts", || async {
                expect_each_word_once(&ns, topics)
            })
            .await?;
            checkpoints_of_session_job_go_on(&ns, name).await?;
            before.push(session_job(&ns, name).await?);
        }

        kill_leader(&ns, async || session_status(&ns).await).await?;
        for (name, topics) in &mut jobs {
            produce_more(&ns, topics, 5_000)?;
            checkpoints_of_session_job_go_on(&ns, name).await?;
        }
        for ((name, topics), before) in jobs.iter().zip(&before) {
            eventually("the counts to go on", || async {
                expect_each_word_once(&ns, topics)
            })
            .await?;
            ensure_untouched(before, &session_job(&ns, name).await?)?;
        }
        for name in ["first", "second"] {
            ns.api::<FlinkSessionJob>()
                .delete(name, &DeleteParams::default())
                .await?;
        }
        ns.api::<FlinkSession>()
            .delete("shared", &DeleteParams::default())
            .await?;
        nothing_is_left(&ns).await
    })
    .await
}

/// The process of the leader is killed, its pod stays: whoever leads then, the job goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_with_one_job_manager_outlives_it_without_a_restart() -> anyhow::Result<()> {
    with_namespace("ha-alone", |ns| async move {
        let mut topics = word_count_topics(&ns, 10_000, 4).await?;
        let mut application = checkpointed(&ns, "wc", &topics, 2);
        with_standby(&ns, &mut application);
        application["spec"]["jobManager"]["replicas"] = 1.into();
        ns.apply(&application).await?;
        let before = application_in_state(&ns, "wc", "RUNNING").await?;
        let before = before
            .status
            .and_then(|status| status.job_status)
            .context("a job")?;
        eventually("the first counts", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;
        checkpoints_go_on(&ns, "wc").await?;
        let epoch = application_status(&ns)
            .await?
            .job_manager
            .and_then(|told| told.epoch);
        let pods = ns.pods(JOB_MANAGERS).await?;
        kill_container(pods.first().context("a JobManager")?)?;
        eventually("its next process to lead", || async {
            let told = application_status(&ns).await?.job_manager.unwrap_or_default();
            ensure!(told.epoch > epoch, "{told:?}");
            Ok(())
        })
        .await?;
        produce_more(&ns, &mut topics, 5_000)?;
        checkpoints_go_on(&ns, "wc").await?;
        eventually("the counts to go on", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;
        let after = application_status(&ns).await?.job_status.context("a job")?;
        ensure_untouched(&before, &after)?;
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// Of the whole cluster's API server: nothing else may need it meanwhile.
pub(crate) mod alone {
    use super::*;

    /// So long it is away.
    const AWAY: Duration = Duration::from_secs(120);

    /// Lets the API server go on, whatever happens.
    struct Paused;

    impl Paused {
        async fn begin() -> anyhow::Result<Self> {
            cluster(&["api-server", "pause"]).await?;
            Ok(Self)
        }
    }

    impl Drop for Paused {
        fn drop(&mut self) {
            let cluster = std::env::var("THALWEG_TEST_CLUSTER").unwrap_or_default();
            let resumed = std::process::Command::new(cluster)
                .args(["api-server", "resume"])
                .status();
            if !resumed.is_ok_and(|status| status.success()) {
                eprintln!("the API server can't be resumed");
            }
        }
    }

    async fn cluster(arguments: &[&str]) -> anyhow::Result<()> {
        let cluster = std::env::var("THALWEG_TEST_CLUSTER")?;
        let status = tokio::process::Command::new(cluster)
            .args(arguments)
            .status()
            .await?;
        ensure!(status.success(), "cluster {arguments:?} failed");
        Ok(())
    }

    /// Nobody leads anew, nothing restarts, and what is read meanwhile is counted.
    #[tokio::test(flavor = "multi_thread")]
    async fn two_minutes_without_the_api_server_change_nothing_for_a_running_job() -> anyhow::Result<()> {
        with_namespace("ha-api", |ns| async move {
            let mut topics = word_count_topics(&ns, 10_000, 4).await?;
            let mut application = checkpointed(&ns, "wc", &topics, 2);
            with_standby(&ns, &mut application);
            ns.apply(&application).await?;
            application_in_state(&ns, "wc", "RUNNING").await?;
            eventually("the first counts", || async {
                expect_each_word_once(&ns, &topics)
            })
            .await?;
            let leader = leader_with_standby(&ns, async || application_status(&ns).await).await?;
            let before = application_status(&ns).await?.job_status.context("a job")?;

            let paused = Paused::begin().await?;
            let begun = Instant::now();
            while begun.elapsed() < AWAY {
                produce_more(&ns, &mut topics, 1_000)?;
                eventually("the counts to go on", || async {
                    expect_each_word_once(&ns, &topics)
                })
                .await?;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            drop(paused);
            eventually("the API server to answer", || async {
                Api::<Pod>::namespaced(ns.client.clone(), &ns.name)
                    .list_metadata(&kube::api::ListParams::default())
                    .await?;
                Ok(())
            })
            .await?;

            checkpoints_go_on(&ns, "wc").await?;
            produce_more(&ns, &mut topics, 1_000)?;
            eventually("the counts to go on", || async {
                expect_each_word_once(&ns, &topics)
            })
            .await?;
            let status = application_status(&ns).await?;
            ensure_untouched(&before, &status.job_status.context("a job")?)?;
            let told = status.job_manager.unwrap_or_default();
            ensure!(
                (told.leader.as_ref(), told.epoch) == (Some(&leader.0), Some(leader.1)),
                "{told:?} leads, before it was {leader:?}"
            );
            delete_application_leaves_nothing(&ns, "wc").await
        })
        .await
    }
}
