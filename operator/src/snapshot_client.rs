//! What the operator asks of a JobManager about snapshots, by Flink's REST paths; behind a trait so that the reconcilers can be tested
//! without one.
//!
//! By REST and not by the status stream: the stream tells the newest savepoint of each kind, REST any one by its id.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use thalweg_crds::SnapshotType;

use crate::build::{REST_PORT, RPC_PORT};
use crate::job_client::NoAnswer;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer has some hundred bytes; one with a failure's text some thousand.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// How a JobManager begins its words about a savepoint that isn't there: one that was deleted by an attempt before.
const NOTHING_THERE: &str = "there is no checkpoint or savepoint at";

/// A snapshot that is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotCall {
    pub(crate) snapshot_type: SnapshotType,
    pub(crate) job_id: String,
    /// 32 hex digits: the same id is the same snapshot.
    pub(crate) trigger_id: String,
    /// The folder for a savepoint; none: as configured.
    pub(crate) directory: Option<String>,
    pub(crate) format_type: &'static str,
}

/// Whether it has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begun {
    Yes,
    Refused(String),
}

/// How an operation goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The JobManager does not know it: it was started anew meanwhile.
    Unknown,
    UnderWay,
    /// The snapshot's path, as far as it is known.
    Completed(Option<String>),
    Failed(String),
}

/// What a JobManager does about snapshots; `address` is that of its gRPC services.
pub(crate) trait SnapshotClient: Send + Sync {
    /// Begins a snapshot.
    fn trigger<'a>(
        &'a self,
        address: &'a str,
        call: &'a SnapshotCall,
    ) -> BoxFuture<'a, Result<Begun, NoAnswer>>;

    /// How it goes.
    fn progress<'a>(
        &'a self,
        address: &'a str,
        call: &'a SnapshotCall,
    ) -> BoxFuture<'a, Result<Progress, NoAnswer>>;

    /// Begins to delete a savepoint; the operation's id.
    fn dispose<'a>(&'a self, address: &'a str, path: &'a str) -> BoxFuture<'a, Result<String, NoAnswer>>;

    /// How that goes. A savepoint that isn't there is deleted.
    fn disposal<'a>(&'a self, address: &'a str, id: &'a str) -> BoxFuture<'a, Result<Progress, NoAnswer>>;
}

/// By HTTP.
#[derive(Debug, Clone)]
pub(crate) struct RestSnapshotClient {
    client: reqwest::Client,
}

impl RestSnapshotClient {
    /// # Errors
    /// A client that can't be made: no random numbers, no TLS.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // Pods are reached as they are, and not through what the environment says of the world outside.
            .no_proxy()
            .tls_built_in_root_certs(false)
            .build()?;
        Ok(Self { client })
    }

    async fn get(&self, address: &str, path: &str) -> Result<Answer, NoAnswer> {
        Answer::of(self.client.get(rest_url(address, path))).await
    }

    async fn post(&self, address: &str, path: &str, body: &Value) -> Result<Answer, NoAnswer> {
        Answer::of(self.client.post(rest_url(address, path)).json(body)).await
    }
}

/// Of the JobManager whose gRPC services are there.
fn rest_url(address: &str, path: &str) -> String {
    let host = address.strip_suffix(&format!(":{RPC_PORT}")).unwrap_or(address);
    format!("{host}:{REST_PORT}{path}")
}

/// What a JobManager said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Yes(Value),
    /// 404
    NotFound,
    /// It does not want to, for good.
    Refused(String),
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Result<Self, NoAnswer> {
        let failed = |error: reqwest::Error| NoAnswer(root_cause(&error));
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(NoAnswer(format!("its answer has over {ANSWER_MAX_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Self::read(status, &bytes)
    }

    fn read(status: reqwest::StatusCode, bytes: &[u8]) -> Result<Self, NoAnswer> {
        let body: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(Self::Yes(body));
        }
        if status == reqwest::StatusCode::NOT_FOUND {
            return Ok(Self::NotFound);
        }
        let errors = body["errors"].as_array().into_iter().flatten();
        let message: Vec<&str> = errors.filter_map(Value::as_str).collect();
        let message = if message.is_empty() {
            format!("the JobManager answered {status}")
        } else {
            message.join("; ")
        };
        // It is shutting down, or overloaded.
        if status == reqwest::StatusCode::SERVICE_UNAVAILABLE {
            return Err(NoAnswer(message));
        }
        Ok(Self::Refused(message))
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    format!("{error}: {cause}")
}

/// Flink's AsynchronousOperationResult.
fn progress_of(body: &Value) -> Progress {
    if body["status"]["id"] != "COMPLETED" {
        return Progress::UnderWay;
    }
    let operation = &body["operation"];
    let failure = ["failure-cause", "failureCause"]
        .into_iter()
        .map(|field| &operation[field])
        .find(|failure| failure.is_object());
    match failure {
        Some(failure) => {
            let text = failure["stack-trace"].as_str().unwrap_or("no cause is known");
            Progress::Failed(text.trim().to_owned())
        }
        None => Progress::Completed(operation["location"].as_str().map(str::to_owned)),
    }
}

fn collection(call: &SnapshotCall) -> String {
    let kind = match call.snapshot_type {
        SnapshotType::Savepoint => "savepoints",
        SnapshotType::Checkpoint => "checkpoints",
    };
    format!("/jobs/{}/{kind}", call.job_id)
}

fn body_of(call: &SnapshotCall) -> Value {
    match call.snapshot_type {
        SnapshotType::Checkpoint => json!({"triggerId": call.trigger_id}),
        SnapshotType::Savepoint => {
            let mut body = json!({
                "cancel-job": false, "formatType": call.format_type, "triggerId": call.trigger_id,
            });
            if let Some(directory) = &call.directory {
                body["target-directory"] = json!(directory);
            }
            body
        }
    }
}

impl SnapshotClient for RestSnapshotClient {
    fn trigger<'a>(
        &'a self,
        address: &'a str,
        call: &'a SnapshotCall,
    ) -> BoxFuture<'a, Result<Begun, NoAnswer>> {
        Box::pin(async move {
            let answer = self.post(address, &collection(call), &body_of(call)).await?;
            Ok(match answer {
                Answer::Yes(_) => Begun::Yes,
                Answer::NotFound => Begun::Refused(format!("the JobManager knows no job {}", call.job_id)),
                Answer::Refused(message) => Begun::Refused(message),
            })
        })
    }

    fn progress<'a>(
        &'a self,
        address: &'a str,
        call: &'a SnapshotCall,
    ) -> BoxFuture<'a, Result<Progress, NoAnswer>> {
        Box::pin(async move {
            let path = format!("{}/{}", collection(call), call.trigger_id);
            let body = match self.get(address, &path).await? {
                Answer::Yes(body) => body,
                Answer::NotFound => return Ok(Progress::Unknown),
                Answer::Refused(message) => return Err(NoAnswer(message)),
            };
            let progress = progress_of(&body);
            let Progress::Completed(None) = progress else {
                return Ok(progress);
            };
            // Flink names a checkpoint by its number alone; where it is may be forgotten by now.
            let id = &body["operation"]["checkpointId"];
            let path = format!("/jobs/{}/checkpoints/details/{id}", call.job_id);
            let details = match self.get(address, &path).await? {
                Answer::Yes(details) => details,
                Answer::NotFound | Answer::Refused(_) => Value::Null,
            };
            let path = details["external_path"].as_str().map(str::to_owned);
            Ok(Progress::Completed(path))
        })
    }

    fn dispose<'a>(&'a self, address: &'a str, path: &'a str) -> BoxFuture<'a, Result<String, NoAnswer>> {
        Box::pin(async move {
            let body = json!({"savepoint-path": path});
            match self.post(address, "/savepoint-disposal", &body).await? {
                Answer::Yes(body) => {
                    let id = body["request-id"].as_str().map(str::to_owned);
                    id.ok_or_else(|| NoAnswer("its answer names no operation".into()))
                }
                Answer::NotFound => Err(NoAnswer("it can't delete savepoints".into())),
                Answer::Refused(message) => Err(NoAnswer(message)),
            }
        })
    }

    fn disposal<'a>(&'a self, address: &'a str, id: &'a str) -> BoxFuture<'a, Result<Progress, NoAnswer>> {
        Box::pin(async move {
            let answer = self.get(address, &format!("/savepoint-disposal/{id}")).await?;
            match answer {
                Answer::Yes(body) => Ok(match progress_of(&body) {
                    Progress::Failed(text) if text.contains(NOTHING_THERE) => Progress::Completed(None),
                    progress => progress,
                }),
                Answer::NotFound => Ok(Progress::Unknown),
                Answer::Refused(message) => Err(NoAnswer(message)),
            }
        })
    }
}

#[cfg(test)]
mod tests;
