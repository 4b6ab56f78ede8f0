//! Steps that several tests take.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Service, ServiceAccount};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use thalweg_crds::{FlinkApplication, FlinkSession, FlinkSessionJob};
use thalweg_e2e::text::{count_words, read_lines};
use thalweg_e2e::{TestNamespace, eventually, kafka, manifest};

/// A topic full of real text and one for the counts.
pub(crate) struct WordCountTopics {
    pub(crate) input: String,
    pub(crate) output: String,
    pub(crate) lines: Vec<String>,
}

pub(crate) async fn word_count_topics(
    ns: &TestNamespace,
    lines: usize,
    partitions: i32,
) -> anyhow::Result<WordCountTopics> {
    let text = read_lines(&ns.around.text)?;
    ensure!(
        text.len() >= 100_000,
        "the text has {} lines: 100,000 are wanted",
        text.len()
    );
    let lines: Vec<String> = text.into_iter().take(lines).collect();
    let brokers = &ns.around.kafka;
    let input = kafka::create_topic(brokers, "lines", partitions).await?;
    let output = kafka::create_topic(brokers, "counts", partitions).await?;
    kafka::produce_lines(brokers, &input, partitions, lines.iter().map(String::as_str))?;
    Ok(WordCountTopics { input, output, lines })
}

/// The counts in the output topic are exactly those of the text.
pub(crate) fn expect_exact_counts(ns: &TestNamespace, topics: &WordCountTopics) -> anyhow::Result<()> {
    let counts = kafka::read_counts(&ns.around.kafka, &topics.output)?;
    let expected = count_words(topics.lines.iter().map(String::as_str));
    ensure!(
        counts.words.len() == expected.len(),
        "{} words, {} expected",
        counts.words.len(),
        expected.len()
    );
    for (word, count) in &expected {
        let found = counts.words.get(word);
        ensure!(found == Some(count), "{word:?}: {found:?}, {count} expected");
    }
    Ok(())
}

/// As [`expect_exact_counts`], and the output has one record a word of the text: nothing was counted again.
pub(crate) fn expect_each_word_once(ns: &TestNamespace, topics: &WordCountTopics) -> anyhow::Result<()> {
    expect_exact_counts(ns, topics)?;
    let records = kafka::read_counts(&ns.around.kafka, &topics.output)?.records as u64;
    let words: u64 = count_words(topics.lines.iter().map(String::as_str))
        .values()
        .sum();
    ensure!(records == words, "{records} records for {words} words");
    Ok(())
}

/// Adds lines of the same text to the input.
pub(crate) fn produce_more(
    ns: &TestNamespace,
    topics: &mut WordCountTopics,
    lines: usize,
) -> anyhow::Result<()> {
    let more: Vec<String> = topics.lines.iter().take(lines).cloned().collect();
    let lines = more.iter().map(String::as_str);
    kafka::produce_lines(&ns.around.kafka, &topics.input, 4, lines)?;
    topics.lines.extend(more);
    Ok(())
}

/// Word count with checkpoints and savepoints in S3, upgraded with a savepoint.
pub(crate) fn checkpointed(
    ns: &TestNamespace,
    name: &str,
    topics: &WordCountTopics,
    parallelism: u32,
) -> serde_json::Value {
    let args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
    let mut application = manifest::application(&ns.around, name, "word-count", parallelism, &args);
    let folder = |kind: &str| ns.around.s3.uri(&format!("{}/{kind}", ns.name)).into();
    let configuration = &mut application["spec"]["flinkConfiguration"];
    for (key, value) in ns.around.s3.configuration() {
        configuration[key] = value;
    }
    configuration["execution.checkpointing.interval"] = "500 ms".into();
    configuration["execution.checkpointing.dir"] = folder("checkpoints");
    configuration["execution.checkpointing.savepoint-dir"] = folder("savepoints");
    application["spec"]["job"]["upgradeMode"] = "savepoint".into();
    application
}

/// Waits for some more complete checkpoints: the newest covers all that was read before.
pub(crate) async fn checkpoints_go_on(ns: &TestNamespace, name: &str) -> anyhow::Result<()> {
    let wanted = checkpoint_id(ns, name).await? + 4;
    eventually("checkpoints to go on", || async {
        let newest = checkpoint_id(ns, name).await?;
        ensure!(newest >= wanted, "the newest is {newest}, {wanted} is waited for");
        Ok(())
    })
    .await
}

/// The newest complete checkpoint of an application's job; 0 = none.
async fn checkpoint_id(ns: &TestNamespace, name: &str) -> anyhow::Result<i64> {
    let status = ns
        .api::<FlinkApplication>()
        .get(name)
        .await?
        .status
        .unwrap_or_default();
    let checkpoint = status.job_status.and_then(|job| job.checkpoint);
    Ok(checkpoint.map_or(0, |checkpoint| checkpoint.id))
}

pub(crate) async fn start_word_count(
    ns: &TestNamespace,
    name: &str,
    topics: &WordCountTopics,
    parallelism: u32,
    bounded: bool,
) -> anyhow::Result<()> {
    let mut args = manifest::word_count_args(&ns.around.kafka, &topics.input, &topics.output);
    if bounded {
        args.push("--bounded");
    }
    ns.apply(&manifest::application(
        &ns.around,
        name,
        "word-count",
        parallelism,
        &args,
    ))
    .await
}

pub(crate) async fn application_in_state(
    ns: &TestNamespace,
    name: &str,
    wanted: &str,
) -> anyhow::Result<FlinkApplication> {
    eventually(&format!("application {name} to be {wanted}"), || async {
        let application = ns.api::<FlinkApplication>().get(name).await?;
        let status = application.status.clone().unwrap_or_default();
        let state = status
            .job_status
            .as_ref()
            .and_then(|job| job.state)
            .map(|state| state.to_string());
        if state.as_deref() == Some(wanted) {
            Ok(application)
        } else {
            bail!("it is {state:?}, error {:?}", status.error)
        }
    })
    .await
}

/// The application's condition `Degraded` is true, or its error is set, with this text in it.
pub(crate) async fn application_error(ns: &TestNamespace, name: &str, text: &str) -> anyhow::Result<()> {
    eventually(
        &format!("the error of application {name} to say {text:?}"),
        || async {
            let status = ns
                .api::<FlinkApplication>()
                .get(name)
                .await?
                .status
                .unwrap_or_default();
            let error = status.error.unwrap_or_default();
            if error.contains(text) {
                Ok(())
            } else {
                bail!("it says {error:?}")
            }
        },
    )
    .await
}

pub(crate) async fn session_ready(ns: &TestNamespace, name: &str, slots: i32) -> anyhow::Result<()> {
    eventually(&format!("session {name} to have {slots} slots"), || async {
        let status = ns
            .api::<FlinkSession>()
            .get(name)
            .await?
            .status
            .unwrap_or_default();
        let available = status.slots.map(|slots| slots.total);
        if available == Some(slots) {
            Ok(())
        } else {
            bail!("it has {available:?}, error {:?}", status.error)
        }
    })
    .await
}

pub(crate) async fn session_job_in_state(
    ns: &TestNamespace,
    name: &str,
    wanted: &str,
) -> anyhow::Result<FlinkSessionJob> {
    eventually(&format!("session job {name} to be {wanted}"), || async {
        let job = ns.api::<FlinkSessionJob>().get(name).await?;
        let status = job.status.clone().unwrap_or_default();
        let state = status
            .job_status
            .as_ref()
            .and_then(|job| job.state)
            .map(|state| state.to_string());
        if state.as_deref() == Some(wanted) {
            Ok(job)
        } else {
            bail!("it is {state:?}, error {:?}", status.error)
        }
    })
    .await
}

pub(crate) async fn delete_application_leaves_nothing(ns: &TestNamespace, name: &str) -> anyhow::Result<()> {
    ns.api::<FlinkApplication>()
        .delete(name, &DeleteParams::default())
        .await?;
    nothing_is_left(ns).await
}

/// No pod, service, config map or service account of ours is in the namespace.
pub(crate) async fn nothing_is_left(ns: &TestNamespace) -> anyhow::Result<()> {
    eventually("everything to be gone", || async {
        let all = ListParams::default();
        let mut left = Vec::new();
        left.extend(
            ns.api::<FlinkApplication>()
                .list(&all)
                .await?
                .iter()
                .map(ResourceExt::name_any),
        );
        left.extend(
            ns.api::<Pod>()
                .list(&all)
                .await?
                .iter()
                .map(ResourceExt::name_any),
        );
        left.extend(
            ns.api::<Service>()
                .list(&all)
                .await?
                .iter()
                .map(ResourceExt::name_any),
        );
        let given = ["kube-root-ca.crt", "default"];
        left.extend(
            ns.api::<ConfigMap>()
                .list(&all)
                .await?
                .iter()
                .map(ResourceExt::name_any),
        );
        left.extend(
            ns.api::<ServiceAccount>()
                .list(&all)
                .await?
                .iter()
                .map(ResourceExt::name_any),
        );
        left.retain(|name| !given.contains(&name.as_str()));
        if left.is_empty() {
            Ok(())
        } else {
            bail!("left: {left:?}")
        }
    })
    .await
}

/// Kills every process of a pod's containers, as the kernel would: found by the pod's cgroup, since the node is this machine.
pub(crate) fn kill_container(pod: &Pod) -> anyhow::Result<()> {
    let uid = pod.uid().context("a pod has a uid")?;
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        // A process may end while it is looked at.
        let of = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let is_ours = of("cgroup").contains(&uid) && of("comm").trim() == "thalweg";
        if is_ours {
            let status = std::process::Command::new("kill").args(["-9", pid]).status()?;
            killed += u32::from(status.success());
        }
    }
    ensure!(killed > 0, "no process of pod {} is there", pod.name_any());
    Ok(())
}

/// Events about an object of ours.
pub(crate) async fn event_reasons(ns: &TestNamespace, name: &str) -> anyhow::Result<Vec<String>> {
    let events = ns.api::<Event>().list(&ListParams::default()).await?;
    let about = events
        .into_iter()
        .filter(|event| event.involved_object.name.as_deref() == Some(name));
    Ok(about.filter_map(|event| event.reason).collect())
}

/// The sum of the newest values of a Prometheus query.
pub(crate) async fn query(ns: &TestNamespace, promql: &str) -> anyhow::Result<f64> {
    let url = format!("{}/api/v1/query", ns.around.prometheus);
    let answer: serde_json::Value = reqwest::Client::new()
        .get(url)
        .query(&[("query", promql)])
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    let series = answer["data"]["result"].as_array().context("no result")?;
    ensure!(!series.is_empty(), "no series for {promql}");
    series
        .iter()
        .map(|one| {
            one["value"][1]
                .as_str()
                .context("no value")?
                .parse::<f64>()
                .context("not a number")
        })
        .sum()
}
