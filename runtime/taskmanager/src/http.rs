//! `/metrics` for Prometheus and `/healthz` for the kubelet.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::actor::Snapshot;
use crate::memory::MemoryBudget;
use crate::metrics::{Identity, Rates, render};

/// How often counters are looked at for rates.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Pages {
    identity: Arc<Identity>,
    memory: MemoryBudget,
    snapshot: watch::Receiver<Snapshot>,
    rates: Arc<Mutex<Rates>>,
}

/// Serves until the returned task is aborted.
pub(crate) async fn serve(
    bind: SocketAddr,
    identity: Identity,
    memory: MemoryBudget,
    snapshot: watch::Receiver<Snapshot>,
) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind(bind).await?;
    let address = listener.local_addr()?;
    let pages = Pages {
        identity: Arc::new(identity),
        memory,
        snapshot,
        rates: Arc::default(),
    };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(pages.clone());
    let task = tokio::spawn(async move {
        let looks = look_on(pages);
        let server = async { axum::serve(listener, router).await };
        tokio::select! {
            () = looks => {}
            end = server => if let Err(error) = end { tracing::error!(%error, "the metrics server ended") },
        }
    });
    Ok((address, task))
}

async fn look_on(pages: Pages) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    loop {
        interval.tick().await;
        let snapshot = pages.snapshot.borrow();
        pages
            .rates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(&snapshot, Instant::now());
    }
}

async fn metrics(State(pages): State<Pages>) -> Result<String, (StatusCode, String)> {
    let snapshot = pages.snapshot.borrow().clone();
    let rates = pages.rates.lock().unwrap_or_else(PoisonError::into_inner);
    render(&pages.identity, pages.memory, &snapshot, &rates)
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
