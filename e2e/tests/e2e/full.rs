//! Runs in `make test-full`, beside the sample.

use anyhow::ensure;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use thalweg_crds::{FlinkSession, FlinkSessionJob};
use thalweg_e2e::{TestNamespace, eventually, manifest, with_namespace};

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
        ns.apply(&session(&ns, "shared", 2)).await?;
        session_ready(&ns, "shared", 4).await?;
        let first = word_count_topics(&ns, 100_000, 2).await?;
        let second = word_count_topics(&ns, 50_000, 2).await?;
        ns.apply(&session_job(&ns, "first", "shared", &first, 2)).await?;
        ns.apply(&session_job(&ns, "second", "shared", &second, 2))
            .await?;
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

fn session(ns: &TestNamespace, name: &str, task_managers: u32) -> serde_json::Value {
    json!({
        "apiVersion": "thalweg.dev/v1alpha1",
        "kind": "FlinkSession",
        "metadata": {"name": name},
        "spec": {
            "image": ns.around.job_image,
            "imagePullPolicy": "IfNotPresent",
            "flinkConfiguration": {"taskmanager.numberOfTaskSlots": "2"},
            "jobManager": {"resource": {"memory": "256m"}},
            "taskManager": {"replicas": task_managers, "resource": {"memory": "512m"}}
        }
    })
}

fn session_job(
    ns: &TestNamespace,
    name: &str,
    session: &str,
    topics: &WordCountTopics,
    parallelism: u32,
) -> serde_json::Value {
    let mut args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
    args.push("--bounded");
    json!({
        "apiVersion": "thalweg.dev/v1alpha1",
        "kind": "FlinkSessionJob",
        "metadata": {"name": name},
        "spec": {
            "sessionName": session,
            "job": {
                "package": {"uri": "local:///opt/thalweg/jobs/word-count"},
                "args": args,
                "parallelism": parallelism
            }
        }
    })
}
