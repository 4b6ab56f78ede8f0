//! Runs in every `make test`.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use thalweg_e2e::{eventually, manifest, with_namespace};

use crate::high_availability::{application_status, ensure_untouched, kill_leader, with_standby};
use crate::steps::*;

/// The main job, end to end: real text through Kafka, four subtasks over two TaskManagers, exact counts, and after its
/// deletion nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_counts_the_words_of_a_real_text_exactly() -> anyhow::Result<()> {
    with_namespace("word-count", |ns| async move {
        let topics = word_count_topics(&ns, usize::MAX, 4).await?;
        start_word_count(&ns, "wc", &topics, 4, true).await?;
        let application = application_in_state(&ns, "wc", "FINISHED").await?;
        let required = application
            .status
            .unwrap_or_default()
            .slots
            .map(|slots| slots.required);
        ensure!(required.is_some(), "status tells the slots");
        expect_exact_counts(&ns, &topics)?;
        ensure!(
            !event_reasons(&ns, "wc").await?.is_empty(),
            "transitions are told as events"
        );
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// A lost TaskManager restarts the job; what it counted in the end is exact all the same. Prometheus has the series.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_task_manager_pod_is_replaced_and_the_job_restarts() -> anyhow::Result<()> {
    with_namespace("kill-tm", |ns| async move {
        let topics = word_count_topics(&ns, 100_000, 2).await?;
        let args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
        let mut application = manifest::application(&ns.around, "wc", "word-count", 2, &args);
        application["spec"]["flinkConfiguration"]["restart-strategy.type"] = "fixed-delay".into();
        application["spec"]["flinkConfiguration"]["restart-strategy.fixed-delay.attempts"] = "10".into();
        application["spec"]["flinkConfiguration"]["restart-strategy.fixed-delay.delay"] = "100 ms".into();
        ns.apply(&application).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        eventually("Prometheus to have the task's records", || async {
            let selector = format!(
                "flink_taskmanager_job_task_numRecordsIn{{namespace=\"{}\"}}",
                ns.name
            );
            ensure!(query(&ns, &selector).await? > 0.0, "no records yet");
            Ok(())
        })
        .await?;

        let pods = ns.pods("app.kubernetes.io/component=taskmanager").await?;
        ensure!(!pods.is_empty(), "there is a TaskManager pod");
        let victim = pods[0].name_any();
        ns.api::<Pod>()
            .delete(&victim, &DeleteParams::default().grace_period(0))
            .await?;
        eventually("the restart to show in status", || async {
            let application = ns.api::<thalweg_crds::FlinkApplication>().get("wc").await?;
            let job = application
                .status
                .unwrap_or_default()
                .job_status
                .unwrap_or_default();
            ensure!(job.restarts.unwrap_or(0) >= 1, "no restart yet");
            Ok(())
        })
        .await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        eventually("the counts to be exact", || async {
            expect_exact_counts(&ns, &topics)
        })
        .await?;
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// What can't run says why, in the resource's status, without a crash loop.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_can_not_start_says_why() -> anyhow::Result<()> {
    with_namespace("refused", |ns| async move {
        let missing = manifest::application(&ns.around, "missing", "no-such-package", 1, &[]);
        ns.apply(&missing).await?;
        application_error(&ns, "missing", "no-such-package").await?;

        let idle = manifest::application(&ns.around, "idle", "misbehaving", 1, &["never-executes"]);
        ns.apply(&idle).await?;
        application_error(&ns, "idle", "execute()").await?;

        let mut image = manifest::application(&ns.around, "image", "word-count", 1, &[]);
        image["spec"]["image"] = "localhost/no-such-image:e2e".into();
        ns.apply(&image).await?;
        application_error(&ns, "image", "no-such-image").await?;
        for name in ["missing", "idle", "image"] {
            ns.api::<thalweg_crds::FlinkApplication>()
                .delete(name, &DeleteParams::default())
                .await?;
        }
        nothing_is_left(&ns).await
    })
    .await
}

/// Stopped with a savepoint in S3, started from it with another parallelism, then without its JobManager: what was counted stays
/// counted, and no line is counted again.
#[tokio::test(flavor = "multi_thread")]
async fn state_survives_a_stop_another_parallelism_and_the_loss_of_the_job_manager() -> anyhow::Result<()> {
    with_namespace("state", |ns| async move {
        let mut topics = word_count_topics(&ns, 20_000, 4).await?;
        let mut application = checkpointed(&ns, "wc", &topics, 1);
        ns.apply(&application).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        eventually("the first counts", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;

        application["spec"]["job"]["state"] = "suspended".into();
        ns.apply(&application).await?;
        let suspended = application_in_state(&ns, "wc", "SUSPENDED").await?;
        let job = suspended
            .status
            .unwrap_or_default()
            .job_status
            .unwrap_or_default();
        let path = job.upgrade_savepoint_path.unwrap_or_default();
        ensure!(path.contains("/savepoint-"), "the savepoint is told: {path:?}");
        produce_more(&ns, &mut topics, 5_000)?;
        application["spec"]["job"]["state"] = "running".into();
        application["spec"]["job"]["parallelism"] = 3.into();
        ns.apply(&application).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        eventually("the counts to go on", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;

        checkpoints_go_on(&ns, "wc").await?;
        let pods = ns.pods("app.kubernetes.io/component=jobmanager").await?;
        let victim = pods.first().map(ResourceExt::name_any).unwrap_or_default();
        ns.api::<Pod>()
            .delete(&victim, &DeleteParams::default().grace_period(0))
            .await?;
        // What the old tasks would still read is rightly read again: at least once.
        checkpoints_go_on(&ns, "wc").await?;
        produce_more(&ns, &mut topics, 5_000)?;
        eventually("the counts to go on again", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// Two JobManagers, the leader's pod killed: the tasks go on as they are, and each word is counted once.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_goes_on_when_the_leading_job_manager_is_killed() -> anyhow::Result<()> {
    with_namespace("ha", |ns| async move {
        let mut topics = word_count_topics(&ns, 10_000, 4).await?;
        let mut application = checkpointed(&ns, "wc", &topics, 2);
        with_standby(&ns, &mut application);
        ns.apply(&application).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        eventually("the first counts", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;
        checkpoints_go_on(&ns, "wc").await?;
        let before = application_status(&ns).await?.job_status.context("a job")?;

        kill_leader(&ns, async || application_status(&ns).await).await?;
        produce_more(&ns, &mut topics, 5_000)?;
        checkpoints_go_on(&ns, "wc").await?;
        eventually("the counts to go on", || async {
            expect_each_word_once(&ns, &topics)
        })
        .await?;
        let after = application_status(&ns).await?.job_status.context("a job")?;
        ensure_untouched(&before, &after)?;
        let reasons = event_reasons(&ns, "wc").await?;
        ensure!(
            reasons.iter().any(|reason| reason == "LeaderChanged"),
            "LeaderChanged is not among {reasons:?}"
        );
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}
