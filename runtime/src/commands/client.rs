//! `thalweg list` and `thalweg cancel`: clients of the REST interface.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::Deserialize;
use thalweg_types::JobId;

use crate::cli::ClientArguments;

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

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// Prints a line a job.
pub(crate) async fn list(client: &ClientArguments) -> anyhow::Result<ExitCode> {
    let url = format!("{}/jobs/overview", client.jobmanager.trim_end_matches('/'));
    let response = reqwest::get(&url).await.with_context(|| unreachable(client))?;
    let overview: JobsOverview = checked(response)
        .await?
        .json()
        .await
        .context("the answer is not a job list")?;
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
    print(if out.is_empty() { "no jobs\n" } else { &out })?;
    Ok(ExitCode::SUCCESS)
}

/// Asks for the job's cancellation.
pub(crate) async fn cancel(job_id: &str, client: &ClientArguments) -> anyhow::Result<ExitCode> {
    let job: JobId = job_id.parse()?;
    let url = format!(
        "{}/jobs/{job}?mode=cancel",
        client.jobmanager.trim_end_matches('/')
    );
    let response = reqwest::Client::new()
        .patch(&url)
        .send()
        .await
        .with_context(|| unreachable(client))?;
    checked(response).await?;
    print(&format!("cancelling {job}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn unreachable(client: &ClientArguments) -> String {
    format!(
        "no JobManager answers at {}; give its REST address by --jobmanager",
        client.jobmanager
    )
}

async fn checked(response: reqwest::Response) -> anyhow::Result<reqwest::Response> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    match response.json::<Errors>().await {
        Ok(Errors { errors }) => bail!("the JobManager refused: {}", errors.join("; ")),
        Err(_) => bail!("the JobManager answered {status}"),
    }
}

fn print(text: &str) -> std::io::Result<()> {
    std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes())
}
