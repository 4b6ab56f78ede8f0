//! What every reconciliation has at hand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::events::{Event, Recorder};

use crate::apply::Applied;
use crate::cluster_watch::ClusterWatches;
use crate::job_client::JobClient;
use crate::metrics::Metrics;
use crate::snapshot_client::SnapshotClient;
use crate::snapshot_index::SnapshotIndex;

/// First wait after an error; doubles up to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Shared by all controllers.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) watches: ClusterWatches,
    pub(crate) jobs: Arc<dyn JobClient>,
    pub(crate) snapshot_client: Arc<dyn SnapshotClient>,
    pub(crate) snapshots: SnapshotIndex,
    pub(crate) applied: Applied,
    /// Image of resources that name none.
    pub(crate) default_image: Option<String>,
    pub(crate) clock: fn() -> Timestamp,
    pub(crate) attempts: Attempts,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Publishes events; one that can't be published is logged, nothing depends on it.
    pub(crate) async fn publish(&self, events: Vec<Event>, about: &ObjectReference) {
        for event in events {
            tracing::info!(
                kind = about.kind,
                namespace = about.namespace,
                name = about.name,
                reason = event.reason,
                note = event.note,
                "event"
            );
            if let Err(error) = self.recorder.publish(&event, about).await {
                tracing::warn!(%error, reason = event.reason, "an event could not be published");
            }
        }
    }
}

/// Consecutive failures of each resource, for the wait before the next try.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failures: Mutex<HashMap<String, u32>>,
}

impl Attempts {
    /// Counts a failure; how long to wait now.
    pub(crate) fn failed(&self, resource: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(resource.to_owned()).or_default();
        let wait = RETRY_MIN.saturating_mul(1 << (*count).min(6)).min(RETRY_MAX);
        *count = count.saturating_add(1);
        wait
    }

    /// Forgets the failures of a resource that went well, or is gone.
    pub(crate) fn succeeded(&self, resource: &str) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_starts_again_after_a_success() {
        let attempts = Attempts::default();
        let waits: Vec<u64> = (0..8).map(|_| attempts.failed("a").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        attempts.succeeded("a");
        assert_eq!(attempts.failed("a").as_secs(), 1);
    }
}
