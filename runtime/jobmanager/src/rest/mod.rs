//! Flink's REST API, version 1, with and without the `/v1` prefix.
//!
//! ```text
//!   request --> handler (overview, jobs, checkpoints, snapshots, jars, taskmanagers) --closure--> control plane --> model: Flink's JSON
//! ```
//!
//! A standby hands what it is asked to the leader ([`standby`]).
//!
//! Paths, fields and the error shape are Flink 2.3's; fields that mean nothing without a JVM are there with neutral values,
//! so that its dashboard and tools read them.

mod checkpoints;
mod error;
mod jars;
mod jobs;
mod model;
mod overview;
mod snapshots;
mod standby;
mod taskmanagers;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::routing::{delete, get, post};
use thalweg_types::config::Configuration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::control_plane::Control;
use crate::dispatcher::Submitter;
use crate::high_availability::Role;
use error::RestError;
use jars::Jars;
pub(crate) use overview::is_secret;
use snapshots::Disposals;

/// What handlers share; cheap to clone.
#[derive(Clone)]
pub(crate) struct Rest {
    pub(crate) control: Control,
    pub(crate) submitter: Arc<Submitter>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) configuration: Configuration,
    pub(crate) jars: Arc<Jars>,
    pub(crate) disposals: Arc<Disposals>,
    pub(crate) role: Role,
}

impl Rest {
    pub(crate) fn new(
        control: Control,
        submitter: Arc<Submitter>,
        settings: Arc<Settings>,
        configuration: Configuration,
        upload_directory: PathBuf,
        role: Role,
    ) -> Self {
        Self {
            control,
            submitter,
            settings,
            configuration,
            jars: Arc::new(Jars::new(upload_directory)),
            disposals: Arc::default(),
            role,
        }
    }

    fn router(self) -> Router {
        let limit = usize::try_from(self.settings.max_rest_body_bytes).unwrap_or(usize::MAX);
        let api = Router::new()
            .route("/config", get(overview::config))
            .route("/overview", get(overview::overview))
            .route("/jobmanager/config", get(overview::jobmanager_config))
            .route("/jobmanager/metrics", get(overview::jobmanager_metrics))
            .route("/jobs", get(jobs::list))
            .route("/jobs/overview", get(jobs::overview))
            .route("/jobs/{job}", get(jobs::details).patch(jobs::terminate))
            .route("/jobs/{job}/status", get(jobs::status))
            .route("/jobs/{job}/plan", get(jobs::plan))
            .route("/jobs/{job}/config", get(jobs::config))
            .route("/jobs/{job}/exceptions", get(jobs::exceptions))
            .route("/jobs/{job}/metrics", get(jobs::metrics))
            .route("/jobs/{job}/execution-result", get(jobs::execution_result))
            .route("/jobs/{job}/accumulators", get(jobs::accumulators))
            .route(
                "/jobs/{job}/checkpoints",
                get(checkpoints::statistics).post(snapshots::trigger_checkpoint),
            )
            .route("/jobs/{job}/checkpoints/config", get(checkpoints::config))
            .route("/jobs/{job}/checkpoints/details/{id}", get(checkpoints::details))
            .route(
                "/jobs/{job}/checkpoints/details/{id}/subtasks/{vertex}",
                get(checkpoints::subtasks),
            )
            .route(
                "/jobs/{job}/checkpoints/{trigger}",
                get(snapshots::checkpoint_operation),
            )
            .route("/jobs/{job}/savepoints", post(snapshots::trigger_savepoint))
            .route(
                "/jobs/{job}/savepoints/{trigger}",
                get(snapshots::savepoint_operation),
            )
            .route("/jobs/{job}/stop", post(snapshots::stop))
            .route("/savepoint-disposal", post(snapshots::dispose))
            .route("/savepoint-disposal/{trigger}", get(snapshots::disposal))
            .route("/jobs/{job}/vertices/{vertex}", get(jobs::vertex))
            .route("/jobs/{job}/vertices/{vertex}/metrics", get(jobs::vertex_metrics))
            .route(
                "/jobs/{job}/vertices/{vertex}/taskmanagers",
                get(jobs::vertex_task_managers),
            )
            .route(
                "/jobs/{job}/vertices/{vertex}/backpressure",
                get(jobs::backpressure),
            )
            .route("/taskmanagers", get(taskmanagers::list))
            .route("/taskmanagers/{id}", get(taskmanagers::details))
            .route("/jars", get(jars::list))
            .route(
                "/jars/upload",
                post(jars::upload).layer(DefaultBodyLimit::disable()),
            )
            .route("/jars/{jar}", delete(jars::remove))
            .route("/jars/{jar}/plan", get(jars::plan).post(jars::plan))
            .route("/jars/{jar}/run", post(jars::run))
            .layer(DefaultBodyLimit::max(limit));
        let standby = standby::Proxy::new(self.role.clone());
        Router::new()
            .nest("/v1", api.clone())
            .merge(api)
            .fallback(|uri: Uri| async move { RestError::not_found(format!("Not found: {}", uri.path())) })
            .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
                RestError {
                    status: axum::http::StatusCode::METHOD_NOT_ALLOWED,
                    message: format!("{method} is not possible on {}", uri.path()),
                }
            })
            .with_state(self)
            .layer(axum::middleware::from_fn_with_state(standby, standby::to_leader))
    }
}

/// Serves until the token is cancelled.
pub(crate) async fn serve(listener: TcpListener, rest: Rest, stop: CancellationToken) {
    let served = axum::serve(listener, rest.router())
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the REST server ended");
    }
}
