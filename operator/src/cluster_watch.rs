//! The status that JobManagers push.
//!
//! ```text
//!   reconciler --follow(key, pod)--> ClusterWatches --one task a cluster--> WatchCluster stream of that pod
//!        ^                                |  <------- snapshot: stored if it differs --------+
//!        +---- trigger(key) <-------------+
//! ```
//! Invariants: one task a cluster at most; a view belongs to one JobManager pod and starts empty when another takes
//! its place, so nothing that an earlier JobManager said is taken for the present one's word.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thalweg_proto::CLUSTER_PROTOCOL_VERSION;
use thalweg_proto::cluster::v1::cluster_client::ClusterClient;
use thalweg_proto::cluster::v1::{ClusterSnapshot, WatchClusterRequest};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::ClusterKind;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Three signs of life (each 5 s) that didn't come.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A snapshot of 1,000 jobs and 1,000 TaskManagers has about 1 MiB.
const SNAPSHOT_MAX_BYTES: usize = 16 << 20;
/// Triggers that wait; a receiver that falls behind reconciles everything instead.
const TRIGGERS_MAX: usize = 1024;

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClusterKey {
    pub(crate) kind: ClusterKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What is known from a JobManager.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The newest snapshot of this JobManager pod.
    pub(crate) snapshot: Option<Arc<ClusterSnapshot>>,
    /// Whether the stream is open.
    pub(crate) connected: bool,
    /// Why it isn't.
    pub(crate) error: Option<String>,
    /// Where its gRPC services are.
    pub(crate) address: String,
}

/// The registry of streams; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct ClusterWatches {
    entries: Arc<Mutex<HashMap<ClusterKey, Entry>>>,
    triggers: broadcast::Sender<ClusterKey>,
}

#[derive(Debug)]
struct Entry {
    pod_uid: String,
    view: View,
    task: Option<JoinHandle<()>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl ClusterWatches {
    pub(crate) fn new() -> Self {
        let (triggers, _) = broadcast::channel(TRIGGERS_MAX);
        Self {
            entries: Arc::default(),
            triggers,
        }
    }

    /// The keys of clusters whose view changed.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<ClusterKey> {
        self.triggers.subscribe()
    }

    /// What is known of a cluster.
    pub(crate) fn view(&self, key: &ClusterKey) -> Option<View> {
        self.with(|entries| entries.get(key).map(|entry| entry.view.clone()))
    }

    /// Streams that are open.
    pub(crate) fn connected(&self) -> usize {
        self.with(|entries| entries.values().filter(|entry| entry.view.connected).count())
    }

    /// Follows this JobManager pod from now on; nothing happens if it is followed already.
    pub(crate) fn follow(&self, key: &ClusterKey, pod_uid: &str, address: &str) {
        self.with(|entries| {
            if entries
                .get(key)
                .is_some_and(|entry| entry.pod_uid == pod_uid && entry.view.address == address)
            {
                return;
            }
            let view = View {
                address: address.to_owned(),
                ..View::default()
            };
            let task = tokio::spawn(follow_forever(
                self.clone(),
                key.clone(),
                pod_uid.to_owned(),
                address.to_owned(),
            ));
            entries.insert(
                key.clone(),
                Entry {
                    pod_uid: pod_uid.to_owned(),
                    view,
                    task: Some(task),
                },
            );
        });
    }

    /// Ends the stream of a cluster and forgets what it said.
    pub(crate) fn stop(&self, key: &ClusterKey) {
        self.with(|entries| entries.remove(key));
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<ClusterKey, Entry>) -> T) -> T {
        work(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the view if it is still that pod's; triggers a reconciliation if the change is one.
    fn update(&self, key: &ClusterKey, pod_uid: &str, change: impl FnOnce(&mut View) -> bool) {
        let changed = self.with(|entries| match entries.get_mut(key) {
            Some(entry) if entry.pod_uid == pod_uid => change(&mut entry.view),
            _ => false,
        });
        if changed {
            // No receiver: no controller runs yet, and each begins with everything.
            let _ = self.triggers.send(key.clone());
        }
    }

    #[cfg(test)]
    pub(crate) fn set_view(&self, key: &ClusterKey, pod_uid: &str, view: View) {
        self.with(|entries| {
            entries.insert(
                key.clone(),
                Entry {
                    pod_uid: pod_uid.into(),
                    view,
                    task: None,
                },
            )
        });
    }
}

async fn follow_forever(watches: ClusterWatches, key: ClusterKey, pod_uid: String, address: String) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let mut heard = false;
        let error = follow_once(&address, |snapshot| {
            heard = true;
            watches.update(&key, &pod_uid, |view| accept(view, snapshot));
        })
        .await;
        tracing::debug!(namespace = key.namespace, name = key.name, address, %error, "the status stream ended");
        watches.update(&key, &pod_uid, |view| {
            let was_connected = std::mem::replace(&mut view.connected, false);
            view.error = Some(error);
            was_connected
        });
        backoff = if heard {
            BACKOFF_MIN
        } else {
            (backoff * 2).min(BACKOFF_MAX)
        };
        tokio::time::sleep(backoff).await;
    }
}

/// Takes a snapshot; whether it says anything new.
fn accept(view: &mut View, snapshot: ClusterSnapshot) -> bool {
    let news = !view.connected || view.snapshot.as_deref() != Some(&snapshot);
    view.connected = true;
    view.error = None;
    if news {
        view.snapshot = Some(Arc::new(snapshot));
    }
    news
}

/// Reads one stream to its end; why it ended.
async fn follow_once(address: &str, mut on_snapshot: impl FnMut(ClusterSnapshot)) -> String {
    let mut client = match connect(address).await {
        Ok(client) => client,
        Err(error) => return error,
    };
    let request = WatchClusterRequest {
        protocol_version: CLUSTER_PROTOCOL_VERSION,
    };
    let mut stream = match client.watch_cluster(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return describe(&status),
    };
    loop {
        match tokio::time::timeout(SILENCE_MAX, stream.message()).await {
            Ok(Ok(Some(snapshot))) => on_snapshot(snapshot),
            Ok(Ok(None)) => return "the JobManager closed the stream".into(),
            Ok(Err(status)) => return describe(&status),
            Err(_) => return format!("the JobManager said nothing for {} s", SILENCE_MAX.as_secs()),
        }
    }
}

/// A client of a JobManager's `Cluster` service.
pub(crate) async fn connect(address: &str) -> Result<ClusterClient<Channel>, String> {
    let endpoint =
        Endpoint::from_shared(address.to_owned()).map_err(|error| format!("{address}: {error}"))?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| format!("{address}: {}", root_cause(&error)))?;
    Ok(ClusterClient::new(channel).max_decoding_message_size(SNAPSHOT_MAX_BYTES))
}

/// A gRPC status in one line.
pub(crate) fn describe(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
