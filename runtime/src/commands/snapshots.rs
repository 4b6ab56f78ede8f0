//! `thalweg checkpoint`, `savepoint`, `stop` and `checkpoints`.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use thalweg_types::JobId;

use super::print;
use crate::cli::{CheckpointArguments, ClientArguments, SavepointArguments, StopArguments};
use crate::rest_client::RestClient;

/// Takes a checkpoint and prints its path. Flink's types: FULL, or CONFIGURED = as the job is configured.
pub(crate) async fn checkpoint(arguments: &CheckpointArguments) -> anyhow::Result<ExitCode> {
    let client = RestClient::new(&arguments.client);
    let job: JobId = arguments.job_id.parse()?;
    let kind = if arguments.full { "FULL" } else { "CONFIGURED" };
    progress(&format!("taking a checkpoint of {job}"));
    let path = format!("/jobs/{job}/checkpoints");
    let body = json!({ "checkpointType": kind });
    let taken = client.operation(&path, &path, &body).await?;
    let id = taken["checkpointId"]
        .as_u64()
        .context("the JobManager named no checkpoint")?;
    let details = client.get(&format!("{path}/details/{id}")).await?;
    let location = details["external_path"]
        .as_str()
        .context("the JobManager named no path")?;
    print(&format!("{location}\n"))
}

/// Takes a savepoint and prints its path, or disposes of one.
pub(crate) async fn savepoint(arguments: &SavepointArguments) -> anyhow::Result<ExitCode> {
    let client = RestClient::new(&arguments.client);
    if let Some(path) = &arguments.dispose {
        let body = json!({ "savepoint-path": path });
        client
            .operation("/savepoint-disposal", "/savepoint-disposal", &body)
            .await?;
        return print(&format!("disposed of {path}\n"));
    }
    let Some(job) = &arguments.job_id else {
        bail!("which job? `thalweg savepoint JOB [DIR]`, or `thalweg savepoint -d PATH` to dispose of one");
    };
    let job: JobId = job.parse()?;
    let mut body = json!({ "cancel-job": false });
    if let Some(directory) = &arguments.directory {
        body["target-directory"] = json!(directory);
    }
    progress(&format!("taking a savepoint of {job}"));
    let path = format!("/jobs/{job}/savepoints");
    print_location(&client.operation(&path, &path, &body).await?)
}

/// Stops a job behind a savepoint and prints the savepoint's path.
pub(crate) async fn stop(arguments: &StopArguments) -> anyhow::Result<ExitCode> {
    let client = RestClient::new(&arguments.client);
    let job: JobId = arguments.job_id.parse()?;
    let mut body = json!({ "drain": arguments.drain });
    if let Some(directory) = &arguments.savepoint_path {
        body["targetDirectory"] = json!(directory);
    }
    progress(&format!("stopping {job} with a savepoint"));
    let (path, status) = (format!("/jobs/{job}/stop"), format!("/jobs/{job}/savepoints"));
    print_location(&client.operation(&path, &status, &body).await?)
}

fn print_location(operation: &Value) -> anyhow::Result<ExitCode> {
    let location = operation["location"]
        .as_str()
        .context("the JobManager named no path")?;
    print(&format!("{location}\n"))
}

/// To a person at a terminal.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{text} ...");
    }
}

/// Prints a job's newest checkpoints, the newest first, and how many there were.
pub(crate) async fn checkpoints(job_id: &str, client: &ClientArguments) -> anyhow::Result<ExitCode> {
    let job: JobId = job_id.parse()?;
    let statistics = RestClient::new(client)
        .get(&format!("/jobs/{job}/checkpoints"))
        .await?;
    print(&describe(&statistics))
}

fn describe(statistics: &Value) -> String {
    let counts = &statistics["counts"];
    let mut text = format!(
        "{} completed, {} failed, {} in progress",
        counts["completed"], counts["failed"], counts["in_progress"]
    );
    if let Some(path) = statistics["latest"]["restored"]["external_path"].as_str() {
        text.push_str(&format!("; restored from {path}"));
    }
    text.push('\n');
    for checkpoint in statistics["history"].as_array().into_iter().flatten() {
        let kind = if checkpoint["is_savepoint"] == true {
            "savepoint"
        } else {
            "checkpoint"
        };
        let outcome = ["failure_message", "external_path"]
            .into_iter()
            .find_map(|field| checkpoint[field].as_str());
        text.push_str(&format!(
            "{:>6}  {kind:<10}  {:<11}  {:>8} ms  {:>12} bytes of {:<12}  {}\n",
            checkpoint["id"],
            checkpoint["status"].as_str().unwrap_or_default(),
            checkpoint["end_to_end_duration"],
            checkpoint["checkpointed_size"],
            checkpoint["state_size"],
            outcome.unwrap_or_default(),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_a_line_each_with_their_path_or_their_failure() {
        let text = describe(&json!({
            "counts": {"completed": 1, "failed": 1, "in_progress": 0},
            "latest": {"restored": null},
            "history": [
                {"id": 2, "status": "FAILED", "is_savepoint": true, "end_to_end_duration": 5, "checkpointed_size": 0,
                 "state_size": 0, "failure_message": "the disk is full", "external_path": null},
                {"id": 1, "status": "COMPLETED", "is_savepoint": false, "end_to_end_duration": 7, "checkpointed_size": 10,
                 "state_size": 20, "external_path": "file:///c/chk-1"},
            ],
        }));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1 completed, 1 failed, 0 in progress");
        assert!(
            lines[1].contains("savepoint") && lines[1].ends_with("the disk is full"),
            "{text}"
        );
        assert!(
            lines[2].contains("10 bytes of 20") && lines[2].ends_with("file:///c/chk-1"),
            "{text}"
        );
    }
}
