//! /jobs

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use thalweg_types::{JobId, VertexId};

use super::error::RestError;
use super::overview::MetricsQuery;
use super::{Rest, model};
use crate::job_master::JobMaster;
use crate::metrics;

type Answer = Result<Json<Value>, RestError>;

const ID_EXPECTED: &str = "32 hex digits are expected";

pub(super) fn job_id(text: &str) -> Result<JobId, RestError> {
    text.parse()
        .map_err(|_| RestError::path_parameter("jobid", text, ID_EXPECTED))
}

pub(super) fn vertex_id(text: &str) -> Result<VertexId, RestError> {
    text.parse()
        .map_err(|_| RestError::path_parameter("vertexid", text, ID_EXPECTED))
}

/// What a closure says of one job.
pub(super) async fn of_job<T: Send + 'static>(
    rest: &Rest,
    job: &str,
    look: impl FnOnce(&JobMaster, u64) -> T + Send + 'static,
) -> Result<T, RestError> {
    let job = job_id(job)?;
    let found = rest
        .control
        .read(move |dispatcher, now_ms| dispatcher.job(job).map(|master| look(master, now_ms)));
    found.await?.ok_or_else(|| RestError::no_job(job))
}

/// What a closure says of one vertex of a job, by its index.
async fn of_vertex(
    rest: &Rest,
    job: &str,
    vertex: &str,
    look: impl FnOnce(&JobMaster, usize, u64) -> Value + Send + 'static,
) -> Answer {
    let expected = vertex_id(vertex)?;
    let found = of_job(rest, job, move |master, now_ms| {
        master
            .vertex_index(expected)
            .map(|index| look(master, index, now_ms))
    });
    let missing = || RestError::not_found(format!("Vertex {expected} not found in job {job}"));
    found.await?.map(Json).ok_or_else(missing)
}

pub(super) async fn list(State(rest): State<Rest>) -> Answer {
    let jobs = rest.control.read(|dispatcher, _| {
        let jobs = dispatcher.jobs();
        jobs.map(|job| json!({ "id": job.id().to_string(), "status": job.state_name() }))
            .collect::<Vec<_>>()
    });
    Ok(Json(json!({ "jobs": jobs.await? })))
}

pub(super) async fn overview(State(rest): State<Rest>) -> Answer {
    let jobs = rest.control.read(|dispatcher, now_ms| {
        dispatcher
            .jobs()
            .map(|job| model::job_overview(job, now_ms))
            .collect::<Vec<_>>()
    });
    Ok(Json(json!({ "jobs": jobs.await? })))
}

pub(super) async fn details(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    of_job(&rest, &job, model::job_details).await.map(Json)
}

pub(super) async fn status(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    of_job(&rest, &job, |master, _| json!({ "status": master.state_name() }))
        .await
        .map(Json)
}

pub(super) async fn plan(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    of_job(
        &rest,
        &job,
        |master, _| json!({ "plan": model::plan(master.job_graph()) }),
    )
    .await
    .map(Json)
}

pub(super) async fn config(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    of_job(&rest, &job, |master, _| model::job_config(master))
        .await
        .map(Json)
}

pub(super) async fn accumulators(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    let none = json!({
        "job-accumulators": [], "user-task-accumulators": [], "serialized-user-task-accumulators": {},
    });
    of_job(&rest, &job, |_, _| none).await.map(Json)
}

#[derive(Debug, Deserialize)]
pub(super) struct ExceptionsQuery {
    #[serde(rename = "maxExceptions")]
    max: Option<String>,
}

pub(super) async fn exceptions(
    State(rest): State<Rest>,
    Path(job): Path<String>,
    Query(query): Query<ExceptionsQuery>,
) -> Answer {
    let max = match &query.max {
        None => usize::MAX,
        Some(text) => text.parse().map_err(|_| {
            RestError::bad_request(format!(
                "Cannot resolve query parameter (maxExceptions) from value {text:?}"
            ))
        })?,
    };
    of_job(&rest, &job, move |master, _| model::exceptions(master, max))
        .await
        .map(Json)
}

pub(super) async fn metrics(
    State(rest): State<Rest>,
    Path(job): Path<String>,
    Query(query): Query<MetricsQuery>,
) -> Answer {
    let gauges = of_job(&rest, &job, metrics::job_gauges).await?;
    let named = gauges.into_iter().map(|(name, value)| (name.to_owned(), value));
    Ok(Json(model::metrics(named, query.get.as_deref())))
}

pub(super) async fn execution_result(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    of_job(&rest, &job, model::execution_result).await.map(Json)
}

pub(super) async fn vertex(State(rest): State<Rest>, Path((job, vertex)): Path<(String, String)>) -> Answer {
    of_vertex(&rest, &job, &vertex, model::vertex_details).await
}

pub(super) async fn vertex_task_managers(
    State(rest): State<Rest>,
    Path((job, vertex)): Path<(String, String)>,
) -> Answer {
    of_vertex(&rest, &job, &vertex, model::vertex_task_managers).await
}

pub(super) async fn vertex_metrics(
    State(rest): State<Rest>,
    Path((job, vertex)): Path<(String, String)>,
    Query(query): Query<MetricsQuery>,
) -> Answer {
    of_vertex(&rest, &job, &vertex, move |master, index, _| {
        model::metrics(
            model::vertex_metric_values(master, index).into_iter(),
            query.get.as_deref(),
        )
    })
    .await
}

pub(super) async fn backpressure(
    State(rest): State<Rest>,
    Path((job, vertex)): Path<(String, String)>,
) -> Answer {
    of_vertex(&rest, &job, &vertex, model::backpressure).await
}

#[derive(Debug, Deserialize)]
pub(super) struct TerminateQuery {
    mode: Option<String>,
}

/// `PATCH /jobs/:id?mode=cancel`
pub(super) async fn terminate(
    State(rest): State<Rest>,
    Path(job): Path<String>,
    Query(query): Query<TerminateQuery>,
) -> Result<(StatusCode, Json<Value>), RestError> {
    let job = job_id(&job)?;
    if let Some(mode) = query.mode.as_deref().filter(|mode| *mode != "cancel") {
        let message =
            format!("Cannot resolve query parameter (mode) from value {mode:?}: \"cancel\" is expected");
        return Err(RestError::bad_request(message));
    }
    if !rest.settings.web_cancel {
        let message = "Canceling over REST is switched off (web.cancel.enable)".to_owned();
        return Err(RestError {
            status: StatusCode::FORBIDDEN,
            message,
        });
    }
    match rest.control.cancel(job).await?.as_deref() {
        None => Err(RestError::no_job(job)),
        Some(state @ ("FINISHED" | "FAILED")) => Err(RestError {
            status: StatusCode::CONFLICT,
            message: format!(
                "Job cancellation failed because the job has already reached another terminal state ({state})."
            ),
        }),
        Some(_) => Ok((StatusCode::ACCEPTED, Json(json!({})))),
    }
}
