//! `thalweg list` and `thalweg cancel`.

use std::process::ExitCode;

use anyhow::Context;
use serde::Deserialize;
use thalweg_types::JobId;

use super::print;
use crate::cli::ClientArguments;
use crate::rest_client::RestClient;

#[derive(Deserialize)]
struct JobsOverview {
    jobs: Vec<JobLine>,
}

#[derive(Deserialize)]
struct JobLine {
    jid: String,
    name: String,
    state: String,
    duration: i64,
}

/// Prints a line a job.
pub(crate) async fn list(client: &ClientArguments) -> anyhow::Result<ExitCode> {
    let overview = RestClient::new(client).get("/jobs/overview").await?;
    let overview: JobsOverview = serde_json::from_value(overview).context("the answer is not a job list")?;
    let mut out = String::new();
    for JobLine {
        jid,
        name,
        state,
        duration,
    } in overview.jobs
    {
        out.push_str(&format!("{jid}  {state:<12} {:>8} s  {name}\n", duration / 1000));
    }
    print(if out.is_empty() { "no jobs\n" } else { &out })
}

/// Asks for the job's cancellation.
pub(crate) async fn cancel(job_id: &str, client: &ClientArguments) -> anyhow::Result<ExitCode> {
    let job: JobId = job_id.parse()?;
    RestClient::new(client)
        .patch(&format!("/jobs/{job}?mode=cancel"))
        .await?;
    print(&format!("cancelling {job}\n"))
}
