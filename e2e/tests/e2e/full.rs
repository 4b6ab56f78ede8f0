//! Runs in `make test-full`, beside the sample.

use anyhow::{Context, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, PostParams};
use kube::core::ObjectMeta;
use serde_json::json;
use thalweg_crds::{FlinkApplication, FlinkSession, FlinkSessionJob};
use thalweg_e2e::{TestNamespace, eventually, kafka, manifest, with_namespace};

use crate::steps::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_subtask_gives_the_same_counts() -> anyhow::Result<()> {
    with_namespace("parallelism-1", |ns| async move {
        let topics = word_count_topics(&ns, 100_000, 3).await?;
        start_word_count(&ns, "wc", &topics, 1, true).await?;
        application_in_state(&ns, "wc", "FINISHED").await?;
        expect_exact_counts(&ns, &topics)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_runs_two_jobs_at_once_and_has_its_slots_back_afterwards() -> anyhow::Result<()> {
    with_namespace("session", |ns| async move {
        ns.apply(&manifest::session(&ns.around, "shared", 2)).await?;
        session_ready(&ns, "shared", 4).await?;
        let first = word_count_topics(&ns, 100_000, 2).await?;
        let second = word_count_topics(&ns, 50_000, 2).await?;
        ns.apply(&session_job(&ns, "first", &first, 2)).await?;
        ns.apply(&session_job(&ns, "second", &second, 2)).await?;
        session_job_in_state(&ns, "first", "FINISHED").await?;
        session_job_in_state(&ns, "second", "FINISHED").await?;
        expect_exact_counts(&ns, &first)?;
        expect_exact_counts(&ns, &second)?;
        eventually("all slots to be free again", || async {
            let selector = format!("flink_jobmanager_taskSlotsAvailable{{namespace=\"{}\"}}", ns.name);
            ensure!(query(&ns, &selector).await? == 4.0, "not yet");
            Ok(())
        })
        .await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_lacks_slots_says_how_many_and_runs_once_they_come() -> anyhow::Result<()> {
    with_namespace("slots", |ns| async move {
        let topics = word_count_topics(&ns, 1_000, 4).await?;
        let args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
        let mut application = manifest::application(&ns.around, "wc", "word-count", 4, &args);
        application["spec"]["taskManager"]["replicas"] = 1.into();
        ns.apply(&application).await?;
        application_error(&ns, "wc", "2 of 4 slots").await?;
        application["spec"]["taskManager"]["replicas"] = 2.into();
        ns.apply(&application).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_application_holds_no_pods_and_runs_again() -> anyhow::Result<()> {
    with_namespace("suspend", |ns| async move {
        let topics = word_count_topics(&ns, 1_000, 1).await?;
        let args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
        let mut application = manifest::application(&ns.around, "wc", "word-count", 1, &args);
        ns.apply(&application).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        application["spec"]["job"]["state"] = "suspended".into();
        ns.apply(&application).await?;
        application_in_state(&ns, "wc", "SUSPENDED").await?;
        eventually("its pods to go", || async {
            ensure!(
                ns.pods("app.kubernetes.io/component").await?.is_empty(),
                "not yet"
            );
            Ok(())
        })
        .await?;
        application["spec"]["job"]["state"] = "running".into();
        ns.apply(&application).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standby_operator_takes_over_when_the_leader_is_killed() -> anyhow::Result<()> {
    with_namespace("leader", |ns| async move {
        let operators = ns.around.operator_namespace.clone();
        let leases = Api::<Lease>::namespaced(ns.client.clone(), &operators);
        let holder = |lease: Lease| {
            lease
                .spec
                .and_then(|spec| spec.holder_identity)
                .unwrap_or_default()
        };
        let leader = holder(leases.get("thalweg-operator").await?);
        let pods = Api::<Pod>::namespaced(ns.client.clone(), &operators);
        pods.delete(&leader, &DeleteParams::default().grace_period(0))
            .await?;
        eventually("another leader", || async {
            let now = holder(leases.get("thalweg-operator").await?);
            ensure!(!now.is_empty() && now != leader, "{now} leads");
            Ok(())
        })
        .await?;
        let topics = word_count_topics(&ns, 1_000, 1).await?;
        start_word_count(&ns, "wc", &topics, 1, true).await?;
        application_in_state(&ns, "wc", "FINISHED").await?;
        expect_exact_counts(&ns, &topics)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_in_two_namespaces_is_two_applications() -> anyhow::Result<()> {
    with_namespace("twin-a", |one| async move {
        with_namespace("twin-b", |other| async move {
            let name = "a".repeat(45);
            for ns in [&one, &other] {
                let topics = word_count_topics(ns, 1_000, 1).await?;
                start_word_count(ns, &name, &topics, 1, true).await?;
            }
            for ns in [&one, &other] {
                application_in_state(ns, &name, "FINISHED").await?;
                delete_application_leaves_nothing(ns, &name).await?;
            }
            Ok(())
        })
        .await
    })
    .await
}

/// A worker over its byte budget is stopped with a message, and the session's other job doesn't notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_allocates_without_end_fails_alone_in_its_session() -> anyhow::Result<()> {
    with_namespace("budget", |ns| async move {
        ns.apply(&manifest::session(&ns.around, "shared", 1)).await?;
        session_ready(&ns, "shared", 2).await?;
        let topics = word_count_topics(&ns, 20_000, 1).await?;
        let mut neighbour = session_job(&ns, "neighbour", &topics, 1);
        let args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
        neighbour["spec"]["job"]["args"] = json!(args);
        ns.apply(&neighbour).await?;
        session_job_in_state(&ns, "neighbour", "RUNNING").await?;

        let mut greedy = session_job(&ns, "greedy", &topics, 1);
        greedy["spec"]["job"]["package"]["uri"] = "local:///opt/thalweg/jobs/misbehaving".into();
        greedy["spec"]["job"]["args"] = json!(["allocates"]);
        ns.apply(&greedy).await?;
        let failed = session_job_in_state(&ns, "greedy", "FAILED").await?;
        let error = failed.status.unwrap_or_default().error.unwrap_or_default();
        ensure!(error.contains("memory budget"), "the error says why: {error:?}");

        eventually("the neighbour's counts to be exact", || async {
            expect_exact_counts(&ns, &topics)
        })
        .await?;
        let neighbour = session_job_in_state(&ns, "neighbour", "RUNNING").await?;
        let restarts = neighbour
            .status
            .unwrap_or_default()
            .job_status
            .and_then(|job| job.restarts);
        ensure!(
            restarts.unwrap_or(0) == 0,
            "the neighbour was restarted: {restarts:?}"
        );
        for name in ["greedy", "neighbour"] {
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

/// The broker goes away in the middle and comes back: the job goes on by itself, and nothing is lost or counted twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_broker_loses_no_line() -> anyhow::Result<()> {
    with_namespace("broker", |ns| async move {
        let mut topics = word_count_topics(&ns, 20_000, 2).await?;
        start_word_count(&ns, "wc", &topics, 2, false).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        eventually("the first counts", || async { expect_exact_counts(&ns, &topics) }).await?;
        let cluster = std::env::var("THALWEG_TEST_CLUSTER")?;
        let restart = tokio::process::Command::new(cluster)
            .args(["kafka", "restart"])
            .status()
            .await?;
        ensure!(restart.success(), "the broker did not come back");
        let more: Vec<String> = topics.lines.iter().take(5_000).cloned().collect();
        kafka::produce_lines(
            &ns.around.kafka,
            &topics.input,
            2,
            more.iter().map(String::as_str),
        )?;
        topics.lines.extend(more);
        eventually("the counts to include what came later", || async {
            expect_exact_counts(&ns, &topics)
        })
        .await?;
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// A topic that doesn't exist and a broker that doesn't answer are told by name in status.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_and_an_unreachable_broker_are_named() -> anyhow::Result<()> {
    with_namespace("kafka", |ns| async move {
        let args = manifest::word_count_args(&ns.around.kafka, "no-such-topic", "nor-this");
        ns.apply(&manifest::application(
            &ns.around,
            "topic",
            "word-count",
            1,
            &args,
        ))
        .await?;
        let args = manifest::word_count_args("127.0.0.1:1", "lines", "counts");
        ns.apply(&manifest::application(
            &ns.around,
            "broker",
            "word-count",
            1,
            &args,
        ))
        .await?;
        application_error(&ns, "topic", "no-such-topic").await?;
        application_error(&ns, "broker", "127.0.0.1:1").await?;
        Ok(())
    })
    .await
}

/// One series of each kind of process, scraped by a real Prometheus.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_has_a_series_of_every_kind_of_process() -> anyhow::Result<()> {
    with_namespace("metrics", |ns| async move {
        let topics = word_count_topics(&ns, 1_000, 1).await?;
        start_word_count(&ns, "wc", &topics, 1, false).await?;
        application_in_state(&ns, "wc", "RUNNING").await?;
        let own = format!("namespace=\"{}\"", ns.name);
        for series in [
            format!("flink_jobmanager_numRegisteredTaskManagers{{{own}}}"),
            format!("flink_jobmanager_job_uptime{{{own}}}"),
            format!("flink_taskmanager_taskSlotsTotal{{{own}}}"),
            format!("flink_taskmanager_job_task_busyTimeMsPerSecond{{{own}}}"),
            format!("flink_taskmanager_job_task_operator_numRecordsOut{{{own}}}"),
            "thalweg_operator_reconciliations_total".to_owned(),
        ] {
            eventually(&series, || async { query(&ns, &series).await }).await?;
        }
        delete_application_leaves_nothing(&ns, "wc").await
    })
    .await
}

/// The image has only the runtime's part in this: the job comes from a bucket, and the TaskManagers have it from the JobManager.
#[tokio::test(flavor = "multi_thread")]
async fn a_package_in_s3_is_run_with_keys_of_the_configuration_or_of_a_secret() -> anyhow::Result<()> {
    with_namespace("s3", |ns| async move {
        let content = std::fs::read(&ns.around.package)?;
        let uri = ns
            .around
            .s3
            .put(&format!("{}/word count.tar.gz", ns.name), content)
            .await?;
        let topics = word_count_topics(&ns, 10_000, 2).await?;
        ns.apply(&from_s3(&ns, "configured", &uri, Some(&topics))).await?;
        application_in_state(&ns, "configured", "FINISHED").await?;
        expect_exact_counts(&ns, &topics)?;

        let topics = word_count_topics(&ns, 10_000, 2).await?;
        let mut application = from_s3(&ns, "secret", &uri, Some(&topics));
        let keys = application["spec"]["flinkConfiguration"]
            .as_object_mut()
            .context("a configuration")?;
        keys.retain(|key, _| !key.ends_with("-key"));
        application["spec"]["jobManager"]["podTemplate"] = json!({"spec": {"containers": [
            {"name": "flink-main-container", "envFrom": [{"secretRef": {"name": "s3"}}]}]}});
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some("s3".into()),
                ..ObjectMeta::default()
            },
            string_data: Some(
                [
                    ("AWS_ACCESS_KEY_ID".to_owned(), ns.around.s3.access_key.clone()),
                    (
                        "AWS_SECRET_ACCESS_KEY".to_owned(),
                        ns.around.s3.secret_key.clone(),
                    ),
                ]
                .into(),
            ),
            ..Secret::default()
        };
        ns.api::<Secret>().create(&PostParams::default(), &secret).await?;
        ns.apply(&application).await?;
        application_in_state(&ns, "secret", "FINISHED").await?;
        expect_exact_counts(&ns, &topics)
    })
    .await
}

/// What is wrong with an address or with keys in S3 is one line of status.
#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_s3_does_not_give_says_why() -> anyhow::Result<()> {
    with_namespace("s3-refused", |ns| async move {
        let uri = ns.around.s3.uri("nowhere/job.tar.gz");
        ns.apply(&from_s3(&ns, "key", &uri, None)).await?;
        let bucket = "s3://no-such-bucket/job.tar.gz";
        ns.apply(&from_s3(&ns, "bucket", bucket, None)).await?;
        let mut wrong = from_s3(&ns, "secret", &uri, None);
        wrong["spec"]["flinkConfiguration"]["s3.secret-key"] = "wrong".into();
        ns.apply(&wrong).await?;
        let mut wrong = from_s3(&ns, "access", &uri, None);
        wrong["spec"]["flinkConfiguration"]["s3.access-key"] = "nobody".into();
        ns.apply(&wrong).await?;
        let mut wrong = from_s3(&ns, "endpoint", &uri, None);
        wrong["spec"]["flinkConfiguration"]["s3.endpoint"] = "ftp://elsewhere".into();
        ns.apply(&wrong).await?;

        let missing = format!("there is no package at {uri}");
        for (name, text) in [
            ("key", missing.as_str()),
            ("bucket", "there is no bucket no-such-bucket"),
            ("secret", "access is denied (SignatureDoesNotMatch"),
            ("access", "No user exists with the provided access key ID"),
            ("endpoint", "s3.endpoint \"ftp://elsewhere\""),
        ] {
            application_error(&ns, name, text).await?;
            let status = ns.api::<FlinkApplication>().get(name).await?.status;
            let error = status.unwrap_or_default().error.unwrap_or_default();
            ensure!(
                !error.contains('\n') && !error.contains('<'),
                "one clear line: {error:?}"
            );
        }
        Ok(())
    })
    .await
}

/// Word count from S3; bounded, over topics, if there are some.
fn from_s3(ns: &TestNamespace, name: &str, uri: &str, topics: Option<&WordCountTopics>) -> serde_json::Value {
    let mut args = Vec::new();
    if let Some(topics) = topics {
        args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
        args.push("--bounded");
    }
    let mut application = manifest::application(&ns.around, name, "", 2, &args);
    application["spec"]["job"]["package"]["uri"] = uri.into();
    for (key, value) in ns.around.s3.configuration() {
        application["spec"]["flinkConfiguration"][key] = value;
    }
    application
}

fn session_job(
    ns: &TestNamespace,
    name: &str,
    topics: &WordCountTopics,
    parallelism: u32,
) -> serde_json::Value {
    let mut args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
    args.push("--bounded");
    manifest::session_job(name, "shared", "word-count", parallelism, &args)
}
