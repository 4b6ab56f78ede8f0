//! Checkpoints and savepoints over REST: Flink's shapes, each operation to its end, each bad input.

use std::path::Path;

use thalweg_proto::control::v1::job_manager_command::Command;

use super::*;
use crate::testing::OnCheckpoint;

/// A folder for checkpoints and one for savepoints, as configuration.
fn folders(base: &Path) -> [(String, String); 2] {
    let uri = |name: &str| format!("file://{}/{name}", base.display());
    [
        ("execution.checkpointing.dir".to_owned(), uri("checkpoints")),
        (
            "execution.checkpointing.savepoint-dir".to_owned(),
            uri("savepoints"),
        ),
    ]
}

async fn job_with(running: &Running, extra: &[(&str, &str)]) -> (JobId, ScriptedTaskManager) {
    let task_manager = ScriptedTaskManager::connect(running, "tm", 2).await;
    let folders = folders(running.folder.path());
    let mut configuration: Vec<(&str, &str)> = folders
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    configuration.push(("parallelism.default", "2"));
    configuration.extend(extra);
    let job = running.submit("counts", &configuration).await;
    let mut status = running.handle.watch_job(job).await.unwrap().unwrap();
    status.wait_for(|status| status.tasks_running == 4).await.unwrap();
    (job, task_manager)
}

impl Api<'_> {
    /// Begins an operation, waits for its end and says what it came to.
    async fn operate(&self, path: &str, status_path: &str, body: Value) -> Value {
        let (status, begun) = self.call(Method::POST, path, Some(&body.to_string())).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{begun}");
        let id = begun["request-id"].as_str().unwrap();
        loop {
            let answer = self.get(&format!("{status_path}/{id}")).await;
            if answer["status"]["id"] == "COMPLETED" {
                return answer["operation"].clone();
            }
            assert_eq!(answer["status"]["id"], "IN_PROGRESS");
            tokio::task::yield_now().await;
        }
    }

    async fn savepoint(&self, job: JobId, body: Value) -> Value {
        let path = format!("/jobs/{job}/savepoints");
        self.operate(&path, &path, body).await
    }

    async fn checkpoint(&self, job: JobId) -> Value {
        let path = format!("/jobs/{job}/checkpoints");
        self.operate(&path, &path, json!({ "checkpointType": "CONFIGURED" }))
            .await
    }
}

fn folder_of(location: &Value) -> std::path::PathBuf {
    let location = location
        .as_str()
        .unwrap_or_else(|| panic!("{location} is a path"));
    location.strip_prefix("file://").unwrap().into()
}

#[tokio::test]
async fn a_checkpoint_out_of_turn_is_told_of_as_flink_does() {
    let running = job_manager(&[], None).await;
    let (job, _task_manager) = job_with(&running, &[]).await;
    let api = running.api();
    let empty = api.get(&format!("/jobs/{job}/checkpoints")).await;
    let counts = json!({ "restored": 0, "total": 0, "in_progress": 0, "completed": 0, "failed": 0 });
    assert_eq!((&empty["counts"], &empty["history"]), (&counts, &json!([])));
    assert_eq!(empty["latest"]["completed"], Value::Null);

    let made = api.checkpoint(job).await;
    assert_eq!(made, json!({ "checkpointId": 1 }));
    let statistics = api.get(&format!("/jobs/{job}/checkpoints")).await;
    assert_eq!(statistics["counts"]["completed"], 1);
    let latest = &statistics["latest"]["completed"];
    assert_eq!(
        (&latest["id"], &latest["status"], &latest["is_savepoint"]),
        (&json!(1), &json!("COMPLETED"), &json!(false))
    );
    assert_eq!(
        (&latest["num_subtasks"], &latest["num_acknowledged_subtasks"]),
        (&json!(4), &json!(4))
    );
    let (written, all) = (
        latest["checkpointed_size"].as_u64().unwrap(),
        latest["state_size"].as_u64().unwrap(),
    );
    assert_eq!(
        (written > 40, all - written),
        (true, 40),
        "the tasks' sizes and the metadata's"
    );
    assert_eq!(statistics["history"][0]["id"], 1);
    assert_eq!(statistics["summary"]["state_size"]["max"], all);
    assert!(folder_of(&latest["external_path"]).join("_metadata").exists());

    let path = format!("/jobs/{job}/metrics?get=numberOfCompletedCheckpoints,lastCompletedCheckpointId");
    assert_eq!(
        api.get(&path).await,
        json!([
            { "id": "numberOfCompletedCheckpoints", "value": "1" },
            { "id": "lastCompletedCheckpointId", "value": "1" }
        ])
    );

    let details = api.get(&format!("/jobs/{job}/checkpoints/details/1")).await;
    let tasks = details["tasks"].as_object().unwrap();
    assert_eq!(tasks.len(), 2, "{details}");
    let (vertex, task) = tasks.iter().next().unwrap();
    assert_eq!(
        (&task["num_subtasks"], &task["status"]),
        (&json!(2), &json!("COMPLETED"))
    );
    let subtasks = api
        .get(&format!("/jobs/{job}/checkpoints/details/1/subtasks/{vertex}"))
        .await;
    let subtask = &subtasks["subtasks"][1];
    assert_eq!(
        (
            &subtask["index"],
            &subtask["status"],
            &subtask["checkpoint"]["sync"]
        ),
        (&json!(1), &json!("completed"), &json!(1))
    );
    assert_eq!(subtasks["summary"]["checkpointed_size"]["max"], 10);
}

#[tokio::test]
async fn the_configuration_of_checkpoints_has_flinks_fields() {
    let running = job_manager(&[], None).await;
    let (job, _task_manager) = job_with(
        &running,
        &[
            ("execution.checkpointing.interval", "1 h"),
            ("execution.checkpointing.timeout", "5 min"),
            (
                "execution.checkpointing.externalized-checkpoint-retention",
                "RETAIN_ON_CANCELLATION",
            ),
        ],
    )
    .await;
    let config = running
        .api()
        .get(&format!("/jobs/{job}/checkpoints/config"))
        .await;
    assert_eq!(
        (&config["mode"], &config["interval"], &config["timeout"]),
        (&json!("exactly_once"), &json!(3_600_000), &json!(300_000))
    );
    assert_eq!(
        config["externalization"],
        json!({ "enabled": true, "delete_on_cancellation": false })
    );
    assert_eq!(config["max_concurrent"], 1);
    assert_eq!(config["unaligned_checkpoints"], false);
}

#[tokio::test]
async fn a_savepoint_is_taken_told_of_and_disposed_of() {
    let running = job_manager(&[], None).await;
    let (job, _task_manager) = job_with(&running, &[]).await;
    let api = running.api();
    let made = api.savepoint(job, json!({ "cancel-job": false })).await;
    let folder = folder_of(&made["location"]);
    assert!(
        folder.starts_with(running.folder.path().join("savepoints")),
        "{made}"
    );
    assert!(folder.join("_metadata").exists());
    let latest = &api.get(&format!("/jobs/{job}/checkpoints")).await["latest"]["savepoint"];
    assert_eq!(latest["external_path"], made["location"]);
    let status = running.handle.snapshot().await.unwrap().jobs.remove(0);
    assert_eq!(status.savepoints[0].path, made["location"]);

    let body = json!({ "savepoint-path": made["location"] });
    let disposed = api
        .operate("/savepoint-disposal", "/savepoint-disposal", body.clone())
        .await;
    assert_eq!(disposed, json!({}));
    assert!(!folder.exists());
    let again = api
        .operate("/savepoint-disposal", "/savepoint-disposal", body)
        .await;
    let cause = again["failure-cause"]["stack-trace"].as_str().unwrap();
    assert!(
        cause.contains("there is no checkpoint or savepoint at"),
        "{cause}"
    );
}

#[tokio::test]
async fn a_checkpoint_is_not_disposed_of_as_a_savepoint() {
    let running = job_manager(&[], None).await;
    let (job, _task_manager) = job_with(&running, &[]).await;
    let api = running.api();
    api.checkpoint(job).await;
    let path =
        api.get(&format!("/jobs/{job}/checkpoints")).await["latest"]["completed"]["external_path"].clone();
    let body = json!({ "savepoint-path": path });
    let refused = api
        .operate("/savepoint-disposal", "/savepoint-disposal", body)
        .await;
    let cause = refused["failure-cause"]["stack-trace"].as_str().unwrap();
    assert!(
        cause.contains("no savepoint") && cause.contains(&job.to_string()),
        "{cause}"
    );
    assert!(folder_of(&path).join("_metadata").exists());
}

#[tokio::test]
async fn a_savepoint_that_cancels_ends_the_job_only_when_it_is_complete() {
    let running = job_manager(&[], None).await;
    let (job, task_manager) = job_with(&running, &[]).await;
    let api = running.api();
    task_manager.on_checkpoint(OnCheckpoint::Decline);
    let failed = api.savepoint(job, json!({ "cancel-job": true })).await;
    let cause = failed["failure-cause"]["stack-trace"].as_str().unwrap();
    assert!(cause.contains("the disk is full"), "{cause}");
    assert_eq!(api.get(&format!("/jobs/{job}/status")).await["status"], "RUNNING");

    task_manager.on_checkpoint(OnCheckpoint::Acknowledge);
    let made = api.savepoint(job, json!({ "cancel-job": true })).await;
    running.until(job, "CANCELED").await;
    assert!(folder_of(&made["location"]).join("_metadata").exists());
}

#[tokio::test]
async fn stop_ends_the_job_behind_a_savepoint() {
    let running = job_manager(&[], None).await;
    let (job, task_manager) = job_with(&running, &[]).await;
    let api = running.api();
    let target = format!("file://{}/elsewhere", running.folder.path().display());
    let (path, status) = (format!("/jobs/{job}/stop"), format!("/jobs/{job}/savepoints"));
    let body = json!({ "targetDirectory": target, "drain": true });
    let made = api.operate(&path, &status, body).await;
    running.until(job, "FINISHED").await;
    assert!(made["location"].as_str().unwrap().starts_with(&target), "{made}");
    let commands = task_manager.commands();
    let options = commands.iter().find_map(|command| match command {
        Command::TriggerCheckpoint(trigger) => trigger.options.clone(),
        _ => None,
    });
    let options = options.unwrap();
    assert!(options.terminate && options.drain);
    let again = api.error(Method::POST, &path, Some("{}")).await;
    assert!(again.1.contains("FINISHED"), "{again:?}");
}

#[tokio::test]
async fn the_same_trigger_id_is_the_same_operation() {
    let running = job_manager(&[], None).await;
    let (job, _task_manager) = job_with(&running, &[]).await;
    let api = running.api();
    let body = json!({ "triggerId": "0123456789abcdef0123456789abcdef" });
    let first = api.savepoint(job, body.clone()).await;
    assert_eq!(api.savepoint(job, body).await, first);
    assert_eq!(
        api.get(&format!("/jobs/{job}/checkpoints")).await["counts"]["completed"],
        1
    );
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_with_the_reason() {
    let running = job_manager(&[], None).await;
    let (job, _task_manager) = running_job(&running).await;
    let api = running.api();
    let refused = async |path: &str, body: &str| {
        let (status, error) = api
            .error(Method::POST, &format!("/jobs/{job}/{path}"), Some(body))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
        error
    };
    assert!(
        refused("savepoints", "{no json")
            .await
            .contains("SavepointTriggerRequestBody")
    );
    assert!(
        refused("savepoints", r#"{"formatType": "ZIP"}"#)
            .await
            .contains("CANONICAL")
    );
    assert!(
        refused("savepoints", r#"{"triggerId": "x"}"#)
            .await
            .contains("32 hex digits")
    );
    let error = refused("savepoints", "{}").await;
    assert!(error.contains("execution.checkpointing.savepoint-dir"), "{error}");
    let error = refused("stop", r#"{"targetDirectory": "hdfs://host/s"}"#).await;
    assert!(error.contains("hdfs"), "{error}");
    assert!(
        refused("checkpoints", r#"{"checkpointType": "HALF"}"#)
            .await
            .contains("HALF")
    );
    let error = refused("checkpoints", "{}").await;
    assert!(error.contains("execution.checkpointing.dir"), "{error}");

    let none = "f".repeat(32);
    for path in [
        format!("/jobs/{job}/savepoints/{none}"),
        format!("/jobs/{job}/checkpoints/{none}"),
        format!("/jobs/{job}/checkpoints/details/7"),
        format!("/savepoint-disposal/{none}"),
        format!("/jobs/{none}/checkpoints"),
    ] {
        assert_eq!(
            api.error(Method::GET, &path, None).await.0,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    let path = format!("/jobs/{job}/checkpoints/details/x");
    assert_eq!(
        api.error(Method::GET, &path, None).await.0,
        StatusCode::BAD_REQUEST
    );
}
