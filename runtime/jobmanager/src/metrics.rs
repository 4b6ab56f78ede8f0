//! Prometheus metrics under the names and labels of Flink's reporter.
//!
//! Flink exposes counters, meters and gauges all as gauges; so do we, or its dashboards would not find them. A job's
//! metrics are there as long as it runs. They are read from the control plane at each scrape: nothing is counted twice.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};
use thalweg_checkpoint::{CheckpointRecord, CheckpointStats};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control_plane::Control;
use crate::dispatcher::{Dispatcher, Leading};
use crate::job_master::JobMaster;

/// A metric's name without its scope, and its value.
type Gauge = (&'static str, f64);

/// `flink_jobmanager_*`; `isLeader` with high availability only, and not Flink's.
pub(crate) fn jobmanager_gauges(dispatcher: &Dispatcher) -> Vec<Gauge> {
    let resources = dispatcher.resources();
    let leads = match dispatcher.leading() {
        Leading::Alone => None,
        Leading::Standby => Some(("isLeader", 0.0)),
        Leading::Durably => Some(("isLeader", 1.0)),
    };
    let mut gauges = vec![
        (
            "numRunningJobs",
            dispatcher.jobs().filter(|job| !job.is_ended()).count() as f64,
        ),
        (
            "numRegisteredTaskManagers",
            resources.registry.iter().count() as f64,
        ),
        ("numPendingTaskManagers", 0.0),
        ("taskSlotsTotal", f64::from(resources.pool.total())),
        ("taskSlotsAvailable", f64::from(resources.pool.free())),
    ];
    gauges.extend(leads);
    gauges
}

/// `flink_jobmanager_job_*`. Times in milliseconds; those of states count from the last change into the state, and are 0
/// outside of it (Flink's `metrics.job.status.enable: CURRENT_TIME`).
pub(crate) fn job_gauges(job: &JobMaster, now_ms: u64) -> Vec<Gauge> {
    let state = job.state_name();
    let since = now_ms.saturating_sub(job.state_since_ms()) as f64;
    let in_state = |name: &str| if state == name { since } else { 0.0 };
    let (uptime, downtime) = match (job.is_ended(), state) {
        (true, _) => (-1.0, -1.0),
        (false, "RUNNING") => (since, 0.0),
        (false, "RESTARTING" | "FAILING") => (0.0, since),
        (false, _) => (0.0, 0.0),
    };
    let restarts = f64::from(job.restarts());
    let mut gauges = vec![
        ("uptime", uptime),
        ("downtime", downtime),
        ("numRestarts", restarts),
        ("fullRestarts", restarts),
        ("initializingTime", in_state("INITIALIZING")),
        ("createdTime", in_state("CREATED")),
        ("runningTime", in_state("RUNNING")),
        ("failingTime", in_state("FAILING")),
        ("restartingTime", in_state("RESTARTING")),
        ("cancellingTime", in_state("CANCELLING")),
    ];
    gauges.extend(checkpoint_gauges(job.checkpoints().stats(), now_ms));
    gauges
}

/// Of the newest completed checkpoint, savepoints apart; -1 while there is none, as Flink. Sizes in bytes, times in milliseconds.
fn checkpoint_gauges(stats: &CheckpointStats, now_ms: u64) -> Vec<Gauge> {
    let counts = stats.counts();
    let last =
        |of: &dyn Fn(&CheckpointRecord) -> u64| stats.latest_completed().map_or(-1.0, |last| of(last) as f64);
    let restored = stats.latest_restored();
    vec![
        ("totalNumberOfCheckpoints", counts.total as f64),
        ("numberOfInProgressCheckpoints", counts.in_progress as f64),
        ("numberOfCompletedCheckpoints", counts.completed as f64),
        ("numberOfFailedCheckpoints", counts.failed as f64),
        ("lastCompletedCheckpointId", last(&|last| last.id)),
        ("lastCheckpointDuration", last(&|last| last.duration_ms(now_ms))),
        ("lastCheckpointCompletedTimestamp", last(&|last| last.ended_ms)),
        ("lastCheckpointSize", last(&CheckpointRecord::checkpointed_bytes)),
        ("lastCheckpointFullSize", last(&CheckpointRecord::state_bytes)),
        ("lastCheckpointMetadataSize", last(&|last| last.metadata_bytes)),
        (
            "lastCheckpointProcessedData",
            last(&CheckpointRecord::processed_bytes),
        ),
        (
            "lastCheckpointPersistedData",
            last(&CheckpointRecord::persisted_bytes),
        ),
        (
            "lastCheckpointRestoreTimestamp",
            restored.map_or(-1.0, |restored| restored.restored_ms as f64),
        ),
    ]
}

/// All metrics of one scrape.
fn gather(dispatcher: &Dispatcher, host: &str, now_ms: u64) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    for (name, value) in jobmanager_gauges(dispatcher) {
        family(&registry, "jobmanager", name, &["host"])?
            .with_label_values(&[host])
            .set(value);
    }
    let mut families: Vec<(&str, GaugeVec)> = Vec::new();
    for job in dispatcher.jobs().filter(|job| !job.is_ended()) {
        for (name, value) in job_gauges(job, now_ms) {
            let known = families.iter().position(|(family, _)| *family == name);
            let index = match known {
                Some(index) => index,
                None => {
                    let labels = ["host", "job_id", "job_name"];
                    families.push((name, family(&registry, "jobmanager_job", name, &labels)?));
                    families.len() - 1
                }
            };
            families[index]
                .1
                .with_label_values(&[host, &job.id().to_string(), job.name()])
                .set(value);
        }
    }
    Ok(registry)
}

fn family(registry: &Registry, scope: &str, metric: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
    let options = Opts::new(
        format!("flink_{scope}_{metric}"),
        format!("{metric} (scope: {scope})"),
    );
    let gauges = GaugeVec::new(options, labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn render(registry: &Registry) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

#[derive(Clone)]
struct Scraped {
    control: Control,
    host: String,
}

async fn scrape(State(scraped): State<Scraped>) -> Response {
    let host = scraped.host;
    let text = scraped
        .control
        .read(move |dispatcher, now_ms| gather(dispatcher, &host, now_ms).and_then(|all| render(&all)));
    match text.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

/// Serves `/metrics` until the token is cancelled.
pub(crate) async fn serve(listener: TcpListener, control: Control, host: String, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/", get(scrape))
        .with_state(Scraped { control, host });
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
    {
        tracing::error!(%error, "the metrics server ended");
    }
}
