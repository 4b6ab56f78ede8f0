//! Operations on snapshots: POST begins one and answers with its `request-id`, GET says how it went. Flink's
//! asynchronous operations; a `triggerId` of the caller makes POST idempotent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thalweg_storage::FileSystems;
use thalweg_types::{Failure, JobId};

use super::error::RestError;
use super::jobs::{job_id, of_job};
use super::{Rest, model};
use crate::job_master::{Operation, OperationKind, SnapshotRequest};
use crate::snapshot;

type Answer = Result<Json<Value>, RestError>;
type Accepted = Result<(StatusCode, Json<Value>), RestError>;

/// Disposals that are remembered.
const KEPT_DISPOSALS: usize = 64;

/// Disposals of savepoints by id, the oldest first.
#[derive(Default)]
pub(crate) struct Disposals(Mutex<VecDeque<(String, DisposalEnd)>>);

/// How a disposal ended; `None` = it is under way.
type DisposalEnd = Option<Result<(), Failure>>;

/// `POST /jobs/:id/checkpoints`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CheckpointBody {
    checkpoint_type: Option<String>,
    trigger_id: Option<String>,
}

/// `POST /jobs/:id/savepoints`: Flink writes some of its fields with hyphens.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SavepointBody {
    #[serde(rename = "target-directory")]
    target_directory: Option<String>,
    #[serde(rename = "cancel-job")]
    cancel_job: Option<bool>,
    #[serde(rename = "formatType")]
    format_type: Option<String>,
    #[serde(rename = "triggerId")]
    trigger_id: Option<String>,
}

/// `POST /jobs/:id/stop`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StopBody {
    target_directory: Option<String>,
    drain: Option<bool>,
    format_type: Option<String>,
    trigger_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct DisposalBody {
    #[serde(rename = "savepoint-path")]
    savepoint_path: String,
}

fn body<T: DeserializeOwned>(bytes: &Bytes, name: &str) -> Result<T, RestError> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(text).map_err(|error| {
        RestError::bad_request(format!("Request did not match expected format {name}: {error}"))
    })
}

/// The caller's id of 32 hex digits, or a new one.
fn operation_id(trigger_id: Option<String>) -> Result<String, RestError> {
    match trigger_id.filter(|id| !id.is_empty()) {
        None => Ok(JobId::random(&mut rand::rng()).to_string()),
        Some(id) if id.parse::<JobId>().is_ok() => Ok(id),
        Some(id) => Err(RestError::bad_request(format!(
            "triggerId {id:?}: 32 hex digits are expected"
        ))),
    }
}

/// There is one format here, which every backend reads: what Flink calls canonical.
fn check_format(format: Option<&str>) -> Result<(), RestError> {
    match format.map(str::to_ascii_uppercase).as_deref() {
        None | Some("" | "CANONICAL" | "NATIVE") => Ok(()),
        Some(other) => Err(RestError::bad_request(format!(
            "formatType {other:?}: CANONICAL or NATIVE is expected"
        ))),
    }
}

fn ending_allowed(rest: &Rest) -> Result<(), RestError> {
    if rest.settings.web_cancel {
        return Ok(());
    }
    Err(RestError {
        status: StatusCode::FORBIDDEN,
        message: "Ending jobs over REST is switched off (web.cancel.enable)".to_owned(),
    })
}

async fn trigger(rest: &Rest, job: &str, request: SnapshotRequest) -> Accepted {
    let job = job_id(job)?;
    let begun = rest.control.trigger_snapshot(job, request).await?;
    let id = begun
        .ok_or_else(|| RestError::no_job(job))?
        .map_err(|failure| RestError::of_failure(&failure))?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "request-id": id }))))
}

pub(super) async fn trigger_checkpoint(
    State(rest): State<Rest>,
    Path(job): Path<String>,
    bytes: Bytes,
) -> Accepted {
    let body: CheckpointBody = body(&bytes, "CheckpointTriggerRequestBody")?;
    let full = match body
        .checkpoint_type
        .map(|kind| kind.to_ascii_uppercase())
        .as_deref()
    {
        None | Some("CONFIGURED" | "INCREMENTAL") => false,
        Some("FULL") => true,
        Some(other) => {
            return Err(RestError::bad_request(format!(
                "checkpointType {other:?}: CONFIGURED, FULL or INCREMENTAL is expected"
            )));
        }
    };
    let request = SnapshotRequest {
        operation_id: operation_id(body.trigger_id)?,
        kind: OperationKind::Checkpoint,
        target: None,
        drain: false,
        full,
    };
    trigger(&rest, &job, request).await
}

pub(super) async fn trigger_savepoint(
    State(rest): State<Rest>,
    Path(job): Path<String>,
    bytes: Bytes,
) -> Accepted {
    let body: SavepointBody = body(&bytes, "SavepointTriggerRequestBody")?;
    check_format(body.format_type.as_deref())?;
    let cancel = body.cancel_job.unwrap_or(false);
    if cancel {
        ending_allowed(&rest)?;
    }
    let request = SnapshotRequest {
        operation_id: operation_id(body.trigger_id)?,
        kind: if cancel {
            OperationKind::SavepointAndCancel
        } else {
            OperationKind::Savepoint
        },
        target: body.target_directory.filter(|directory| !directory.is_empty()),
        drain: false,
        full: true,
    };
    trigger(&rest, &job, request).await
}

pub(super) async fn stop(State(rest): State<Rest>, Path(job): Path<String>, bytes: Bytes) -> Accepted {
    let body: StopBody = body(&bytes, "StopWithSavepointRequestBody")?;
    check_format(body.format_type.as_deref())?;
    ending_allowed(&rest)?;
    let request = SnapshotRequest {
        operation_id: operation_id(body.trigger_id)?,
        kind: OperationKind::Stop,
        target: body.target_directory.filter(|directory| !directory.is_empty()),
        drain: body.drain.unwrap_or(false),
        full: true,
    };
    trigger(&rest, &job, request).await
}

async fn operation(rest: &Rest, job: &str, id: &str, checkpoint: bool) -> Answer {
    let wanted = id.to_owned();
    let found = of_job(rest, job, move |master, _| master.operation(&wanted).cloned()).await?;
    let of_kind = |operation: &Operation| (operation.kind == OperationKind::Checkpoint) == checkpoint;
    match found.filter(of_kind) {
        Some(operation) => Ok(Json(model::operation(&operation))),
        None => {
            let kind = if checkpoint { "checkpoint" } else { "savepoint" };
            Err(RestError::not_found(format!(
                "There is no {kind} operation with triggerId={id} for job {job}"
            )))
        }
    }
}

pub(super) async fn checkpoint_operation(
    State(rest): State<Rest>,
    Path((job, id)): Path<(String, String)>,
) -> Answer {
    operation(&rest, &job, &id, true).await
}

pub(super) async fn savepoint_operation(
    State(rest): State<Rest>,
    Path((job, id)): Path<(String, String)>,
) -> Answer {
    operation(&rest, &job, &id, false).await
}

// ---- disposal ----

impl Disposals {
    fn begin(&self, id: String) {
        let mut disposals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if disposals.len() >= KEPT_DISPOSALS {
            disposals.pop_front();
        }
        disposals.push_back((id, None));
    }

    fn end(&self, id: &str, result: Result<(), Failure>) {
        let mut disposals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, end)) = disposals.iter_mut().find(|(known, _)| known == id) {
            *end = Some(result);
        }
    }

    fn get(&self, id: &str) -> Option<DisposalEnd> {
        let disposals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        disposals
            .iter()
            .find(|(known, _)| known == id)
            .map(|(_, end)| end.clone())
    }
}

pub(super) async fn dispose(State(rest): State<Rest>, bytes: Bytes) -> Accepted {
    let body: DisposalBody = body(&bytes, "SavepointDisposalRequest")?;
    let id = JobId::random(&mut rand::rng()).to_string();
    rest.disposals.begin(id.clone());
    let (disposals, own_id): (Arc<Disposals>, String) = (rest.disposals.clone(), id.clone());
    let file_systems = FileSystems::new(rest.configuration);
    tokio::spawn(async move {
        let disposed = snapshot::dispose(&file_systems, &body.savepoint_path).await;
        disposals.end(&own_id, disposed.map_err(|error| Failure::from_error(&error)));
    });
    Ok((StatusCode::ACCEPTED, Json(json!({ "request-id": id }))))
}

pub(super) async fn disposal(State(rest): State<Rest>, Path(id): Path<String>) -> Answer {
    let end = rest
        .disposals
        .get(&id)
        .ok_or_else(|| RestError::not_found(format!("There is no savepoint disposal with triggerId={id}")))?;
    Ok(Json(match end {
        None => json!({ "status": { "id": "IN_PROGRESS" }, "operation": null }),
        Some(Ok(())) => json!({ "status": { "id": "COMPLETED" }, "operation": {} }),
        Some(Err(failure)) => json!({
            "status": { "id": "COMPLETED" },
            "operation": { "failure-cause": model::failure_cause(&failure) },
        }),
    }))
}
