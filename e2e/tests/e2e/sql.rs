//! SQL scripts as resources: `spec.job.sql`. Those of `sample` run in every `make test`.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use thalweg_crds::FlinkApplication;
use thalweg_e2e::{TestNamespace, eventually, manifest, with_namespace};

use crate::steps::*;

/// Each word with its count, as word count's records are: the key is the word, the newest value its count.
const WORD_COUNT: &str = r"
SET 'pipeline.name' = 'words';
CREATE TABLE lines (line STRING) WITH (
  'connector' = 'kafka', 'properties.bootstrap.servers' = '${brokers}', 'topic' = '${input}',
  'scan.startup.mode' = 'earliest-offset', 'format' = 'raw'
);
CREATE TABLE counts (word STRING, shown STRING, PRIMARY KEY (word) NOT ENFORCED) WITH (
  'connector' = 'upsert-kafka', 'properties.bootstrap.servers' = '${brokers}', 'topic' = '${output}',
  'key.format' = 'raw', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'
);
INSERT INTO counts
  SELECT word, CONCAT(word, ' ', CAST(COUNT(*) AS STRING))
  FROM lines CROSS JOIN UNNEST(SPLIT(REGEXP_REPLACE(LOWER(line), '[^\p{L}\p{N}]+', ' '), ' ')) AS t (word)
  WHERE word <> ''
  GROUP BY word;
";

/// The job of a resource made a script's.
fn with_script(resource: &mut Value, ns: &TestNamespace, script: &str, topics: &WordCountTopics) {
    let job = resource["spec"]["job"].as_object_mut();
    if let Some(job) = job {
        job.remove("package");
        job.insert("sql".into(), script.into());
        let variables = [
            ("brokers", &ns.around.kafka),
            ("input", &topics.input),
            ("output", &topics.output),
        ];
        let args = variables
            .iter()
            .flat_map(|(name, value)| ["-D".to_owned(), format!("{name}={value}")]);
        job.insert("args".into(), args.collect());
    }
}

mod sample {
    use super::*;

    /// Inline, killed, edited above its state and started again from its savepoint at another parallelism: no count is lost. An edit that its
    /// state doesn't allow is refused by operator and column.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_script_in_a_resource_keeps_its_counts_through_a_kill_and_an_edit() -> anyhow::Result<()> {
        with_namespace("sql", |ns| async move {
            let mut topics = word_count_topics(&ns, 10_000, 4).await?;
            let mut application = checkpointed(&ns, "words", &topics, 2);
            with_script(&mut application, &ns, WORD_COUNT, &topics);
            application["spec"]["flinkConfiguration"]["restart-strategy.type"] = "fixed-delay".into();
            application["spec"]["flinkConfiguration"]["restart-strategy.fixed-delay.attempts"] = "10".into();
            application["spec"]["flinkConfiguration"]["restart-strategy.fixed-delay.delay"] = "100 ms".into();
            ns.apply(&application).await?;
            application_in_state(&ns, "words", "RUNNING").await?;
            eventually("the first counts", || async { expect_exact_counts(&ns, &topics) }).await?;
            checkpoints_go_on(&ns, "words").await?;

            let pods = ns.pods("app.kubernetes.io/component=taskmanager").await?;
            let victim = pods.first().map(ResourceExt::name_any).unwrap_or_default();
            ns.api::<Pod>()
                .delete(&victim, &DeleteParams::default().grace_period(0))
                .await?;
            produce_more(&ns, &mut topics, 5_000)?;
            eventually("the counts to go on behind the kill", || async {
                expect_exact_counts(&ns, &topics)
            })
            .await?;
            checkpoints_go_on(&ns, "words").await?;

            let edited = WORD_COUNT.replace("CONCAT(word, ' ',", "CONCAT(LOWER(word), ' ',");
            with_script(&mut application, &ns, &edited, &topics);
            application["spec"]["job"]["parallelism"] = 3.into();
            ns.apply(&application).await?;
            produce_more(&ns, &mut topics, 5_000)?;
            eventually("the counts of the edited script", || async {
                let status = ns
                    .api::<FlinkApplication>()
                    .get("words")
                    .await?
                    .status
                    .unwrap_or_default();
                let from = status.recovery.restore_path.unwrap_or_default();
                ensure!(from.contains("/savepoint-"), "it started from {from:?}");
                expect_exact_counts(&ns, &topics)
            })
            .await?;

            let other_state = edited.replace("COUNT(*)", "COUNT(DISTINCT line)");
            with_script(&mut application, &ns, &other_state, &topics);
            ns.apply(&application).await?;
            application_error(&ns, "words", "GroupAggregate(groupBy=[word]").await?;
            delete_application_leaves_nothing(&ns, "words").await
        })
        .await
    }
}

/// What is wrong with a script is told with its line, in an application and in a session's job.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_script_is_in_the_resources_status_with_its_line() -> anyhow::Result<()> {
    with_namespace("sql-refused", |ns| async move {
        let script =
            "CREATE TABLE a (b INT) WITH ('connector' = 'datagen');\nINSERT INTO nowhere\nSELECT c FROM a;\n";
        let mut application = manifest::application(&ns.around, "wrong", "none", 1, &[]);
        let job = json!({"sql": script, "parallelism": 1, "upgradeMode": "stateless"});
        application["spec"]["job"] = job;
        ns.apply(&application).await?;
        application_error(&ns, "wrong", "line 2").await?;
        ns.api::<FlinkApplication>()
            .delete("wrong", &DeleteParams::default())
            .await?;

        ns.apply(&manifest::session(&ns.around, "shared", 1)).await?;
        session_ready(&ns, "shared", 2).await?;
        let mut job = manifest::session_job("wrong", "shared", "none", 1, &[]);
        job["spec"]["job"] = json!({"sql": script, "parallelism": 1});
        ns.apply(&job).await?;
        eventually("the session job's error", || async {
            let job = ns.api::<thalweg_crds::FlinkSessionJob>().get("wrong").await?;
            let error = job.status.unwrap_or_default().error.unwrap_or_default();
            ensure!(error.contains("line 2"), "the error is {error:?}");
            Ok(())
        })
        .await
    })
    .await
}
