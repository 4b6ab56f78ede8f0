//! The Thalweg operator: makes FlinkApplications, FlinkSessions, FlinkSessionJobs and FlinkStateSnapshots what their specs say.
//!
//! ```text
//!   custom resource --> controller: dereference -> validate -> plan -> build -> apply -> status
//!                                        ^            |         |        |
//!   pods, Deployments (watch) -----------+          pure      pure     pure
//!   JobManagers (pushed gRPC stream) ----+
//! ```
//!
//! Two replicas run; one leads by a Lease (`lease`), the other waits. `validate`, `plan`, `build`, `status` and `events`
//! are pure; I/O is in `dereference`, `apply`, `controller`, `cluster_watch`,
//! `job_client`, `snapshot_client`, `lease` and `http`.

mod apply;
mod build;
mod cleanup;
mod cluster;
mod cluster_watch;
mod context;
mod controller;
mod dereference;
mod events;
mod http;
mod job_client;
mod lease;
mod metrics;
mod names;
mod observe;
mod plan;
mod policy;
mod snapshot_client;
mod snapshot_index;
mod status;
#[cfg(test)]
mod testing;
mod validate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::Parser;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cluster_watch::ClusterWatches;
use crate::context::{Attempts, Context};
use crate::lease::Election;
use crate::metrics::Metrics;

/// The operator's settings; the chart sets them by environment.
#[derive(Debug, Parser)]
#[command(
    name = "thalweg-operator",
    version,
    about = "Runs Thalweg's custom resources on Kubernetes"
)]
struct Settings {
    /// Namespaces to watch, separated by commas; empty: all.
    #[arg(long, env = "THALWEG_WATCH_NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    /// Image of resources that name none; pinned in their status when they are first seen.
    #[arg(long, env = "THALWEG_RUNTIME_IMAGE")]
    runtime_image: Option<String>,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "THALWEG_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Whether replicas elect a leader; without, there must be one replica.
    #[arg(long, env = "THALWEG_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    leader_election: bool,
    /// Name of the Lease.
    #[arg(long, env = "THALWEG_LEASE_NAME", default_value = "thalweg-operator")]
    lease_name: String,
    /// This pod's namespace, in which the Lease is; default: the client's.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: Option<String>,
    /// This pod's name, by which it holds the Lease.
    #[arg(long, env = "POD_NAME", default_value = "thalweg-operator")]
    identity: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();

    let client = Client::try_default()
        .await
        .context("no Kubernetes API server is configured")?;
    let metrics = Arc::new(Metrics::new().context("metrics")?);
    let watches = ClusterWatches::new();
    let ready = Arc::new(AtomicBool::new(false));
    let listener = tokio::net::TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("listening on {}", settings.listen))?;
    let endpoints = http::Endpoints {
        metrics: metrics.clone(),
        watches: watches.clone(),
        ready: ready.clone(),
    };
    let server = tokio::spawn(async move { axum::serve(listener, http::router(endpoints)).await });

    let outcome = lead(&settings, client, &metrics, watches, &ready).await;
    server.abort();
    outcome
}

/// Waits for leadership and runs the controllers until they are to stop, or leadership is lost.
async fn lead(
    settings: &Settings,
    client: Client,
    metrics: &Arc<Metrics>,
    watches: ClusterWatches,
    ready: &AtomicBool,
) -> anyhow::Result<()> {
    let namespace = settings
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let leases = Api::namespaced(client.clone(), &namespace);
    let mut lock = Election::new(leases, settings.lease_name.clone(), settings.identity.clone());
    if settings.leader_election {
        tracing::info!(
            lease = settings.lease_name,
            identity = settings.identity,
            "waiting for leadership"
        );
        tokio::select! {
            () = lock.acquire(|| ready.store(true, Ordering::Relaxed)) => {}
            signal = terminated() => return signal,
        }
    }
    ready.store(true, Ordering::Relaxed);
    metrics.leading(true);
    tracing::info!(identity = settings.identity, "leading");

    let reporter = Reporter {
        controller: names::MANAGER.into(),
        instance: Some(settings.identity.clone()),
    };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        metrics: metrics.clone(),
        watches,
        jobs: Arc::new(job_client::GrpcJobClient),
        snapshot_client: Arc::new(snapshot_client::RestSnapshotClient::new().context("an HTTP client")?),
        snapshots: snapshot_index::SnapshotIndex::default(),
        applied: apply::Applied::default(),
        default_image: settings.runtime_image.clone().filter(|image| !image.is_empty()),
        clock: Timestamp::now,
        attempts: Attempts::default(),
    });
    let (stop, stopping) = watch::channel(false);
    let namespaces: Vec<String> = settings
        .watch_namespaces
        .iter()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    let controllers = controller::run(context, &namespaces, stopping);
    tokio::pin!(controllers);

    let lost = async {
        if settings.leader_election {
            lock.hold().await
        } else {
            std::future::pending().await
        }
    };
    let outcome = tokio::select! {
        () = &mut controllers => Err(anyhow::anyhow!("the controllers ended")),
        // At once and without finishing anything: another replica works from now on.
        lost = lost => return Err(anyhow::Error::new(lost).context("leadership is lost")),
        signal = terminated() => signal,
    };
    let _ = stop.send(true);
    controllers.await;
    metrics.leading(false);
    if settings.leader_election {
        lock.release().await.context("releasing the lease")?;
    }
    outcome
}

/// SIGTERM or SIGINT.
async fn terminated() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result.context("SIGINT")?,
    }
    tracing::info!("ending");
    Ok(())
}
