//! A client of a JobManager's REST interface: Flink's paths, Flink's error shape, every error in one line.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::ClientArguments;

/// Between two questions whether an operation has ended; doubled up to [`LONGEST_POLL`].
const FIRST_POLL: Duration = Duration::from_millis(20);
const LONGEST_POLL: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// The way to one JobManager.
pub(crate) struct RestClient {
    address: String,
    client: reqwest::Client,
}

impl RestClient {
    pub(crate) fn new(arguments: &ClientArguments) -> Self {
        Self {
            address: arguments.jobmanager.trim_end_matches('/').to_owned(),
            client: reqwest::Client::new(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(self.client.get(self.url(path))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(self.client.post(self.url(path)).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str) -> anyhow::Result<Value> {
        self.call(self.client.patch(self.url(path))).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let response = request.send().await.with_context(|| {
            format!(
                "no JobManager answers at {}; give its REST address by --jobmanager",
                self.address
            )
        })?;
        let status = response.status();
        if status.is_success() {
            return response
                .json()
                .await
                .context("the JobManager's answer is not what is expected");
        }
        match response.json::<Errors>().await {
            Ok(Errors { errors }) => bail!("the JobManager refused: {}", errors.join("; ")),
            Err(_) => bail!("the JobManager answered {status}"),
        }
    }

    /// Starts an operation and waits for its end; what it says then, or why it failed.
    pub(crate) async fn operation(
        &self,
        path: &str,
        status_path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let started = self.post(path, body).await?;
        let id = started["request-id"]
            .as_str()
            .context("the JobManager named no operation")?;
        let status_path = format!("{status_path}/{id}");
        let mut pause = FIRST_POLL;
        loop {
            let answer = self.get(&status_path).await?;
            if answer["status"]["id"] == "COMPLETED" {
                return ended(&answer["operation"]);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_POLL);
        }
    }
}

/// What an operation that ended came to.
fn ended(operation: &Value) -> anyhow::Result<Value> {
    let cause = [&operation["failure-cause"], &operation["failureCause"]]
        .into_iter()
        .find(|cause| !cause.is_null());
    match cause {
        None => Ok(operation.clone()),
        Some(cause) => {
            let trace = cause["stack-trace"].as_str().unwrap_or_default();
            bail!(
                "{}",
                trace.lines().next().unwrap_or("it failed without saying why")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_operation_is_an_error_of_one_line() {
        let failed =
            json!({"failure-cause": {"class": "X", "stack-trace": "disk full: s3://b\nCaused by: more"}});
        assert_eq!(ended(&failed).unwrap_err().to_string(), "disk full: s3://b");
        let completed = json!({"location": "file:///s", "failure-cause": null});
        assert_eq!(ended(&completed).unwrap()["location"], "file:///s");
    }
}
