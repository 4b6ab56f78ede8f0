//! The status that JobManagers push.
//!
//! ```text
//!   reconciler --follow(key, pods)--> ClusterWatches --one task a cluster--> WatchCluster stream of the leading pod
//!        ^                                |  <------- snapshot: stored if it differs --------+
//!        +---- trigger(key) <-------------+      standby: "the leader is ADDRESS" --> goes there, else asks the next pod
//! ```
//! Invariants: one task a cluster at most; a view belongs to one incarnation of the control plane and starts empty with
//! another: a pod, or, where JobManagers elect a leader, all pods of one start, since what one of them said is in the log that
//! the next one goes on from. Of an elected leader of a lower epoch than one that was heard nothing is taken.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thalweg_proto::CLUSTER_PROTOCOL_VERSION;
use thalweg_proto::cluster::v1::cluster_client::ClusterClient;
use thalweg_proto::cluster::v1::{ClusterSnapshot, WatchClusterRequest};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::ClusterKind;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Until the next JobManager of several is asked, while none leads.
const STANDBY_PAUSE: Duration = Duration::from_millis(500);
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

/// A JobManager's pod, to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) pod: String,
    /// `http://host:port`.
    pub(crate) address: String,
}

/// A cluster's JobManagers, one of which speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobManagers {
    /// What is known of another one is forgotten.
    pub(crate) incarnation: String,
    /// They elect a leader: epochs count.
    pub(crate) elected: bool,
    /// At least one.
    pub(crate) candidates: Vec<Candidate>,
}

/// Who gave the newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) pod: String,
    pub(crate) epoch: u64,
}

/// What is known from a JobManager.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The newest snapshot of this incarnation.
    pub(crate) snapshot: Option<Arc<ClusterSnapshot>>,
    /// Who gave it; none: nobody has.
    pub(crate) leader: Option<Leader>,
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
    incarnation: String,
    view: View,
    candidates: watch::Sender<Vec<Candidate>>,
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

    /// Follows the leader of these JobManagers from now on; nothing happens if they are followed already.
    pub(crate) fn follow(&self, key: &ClusterKey, job_managers: JobManagers) {
        let JobManagers {
            incarnation,
            elected,
            candidates,
        } = job_managers;
        self.with(|entries| {
            let known = entries.get(key).filter(|entry| entry.incarnation == incarnation);
            if let Some(entry) = known
                && (elected || *entry.candidates.borrow() == candidates)
            {
                entry.candidates.send_if_modified(|known| {
                    let news = *known != candidates;
                    *known = candidates;
                    news
                });
                return;
            }
            let first = candidates.first().map(|first| first.address.clone());
            let view = View {
                address: first.unwrap_or_default(),
                ..View::default()
            };
            let (candidates, asked) = watch::channel(candidates);
            let follower = Follower {
                watches: self.clone(),
                key: key.clone(),
                incarnation: incarnation.clone(),
                elected,
                candidates: asked,
            };
            let entry = Entry {
                incarnation,
                view,
                candidates,
                task: Some(tokio::spawn(follower.follow_forever())),
            };
            entries.insert(key.clone(), entry);
        });
    }

    /// Ends the stream of a cluster and forgets what it said.
    pub(crate) fn stop(&self, key: &ClusterKey) {
        self.with(|entries| entries.remove(key));
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<ClusterKey, Entry>) -> T) -> T {
        work(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the view if it is still that incarnation's; triggers a reconciliation if the change is one.
    fn update(&self, key: &ClusterKey, incarnation: &str, change: impl FnOnce(&mut View) -> bool) {
        let changed = self.with(|entries| match entries.get_mut(key) {
            Some(entry) if entry.incarnation == incarnation => change(&mut entry.view),
            _ => false,
        });
        if changed {
            // No receiver: no controller runs yet, and each begins with everything.
            let _ = self.triggers.send(key.clone());
        }
    }

    #[cfg(test)]
    pub(crate) fn set_view(&self, key: &ClusterKey, incarnation: &str, view: View) {
        let candidate = Candidate {
            pod: "wc-jobmanager-x".into(),
            address: view.address.clone(),
        };
        let entry = Entry {
            incarnation: incarnation.into(),
            view,
            candidates: watch::channel(vec![candidate]).0,
            task: None,
        };
        self.with(|entries| entries.insert(key.clone(), entry));
    }
}

/// What keeps one cluster's stream open.
struct Follower {
    watches: ClusterWatches,
    key: ClusterKey,
    incarnation: String,
    elected: bool,
    candidates: watch::Receiver<Vec<Candidate>>,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ended {
    error: String,
    /// Snapshots came.
    heard: bool,
    /// `http://host:port` of the leader that a standby named.
    leader: Option<String>,
}

impl Follower {
    async fn follow_forever(mut self) {
        let mut backoff = BACKOFF_MIN;
        let mut turn = 0_usize;
        let mut named: Option<String> = None;
        loop {
            let candidates = self.candidates.borrow_and_update().clone();
            let leader = named.take();
            let leader = candidates
                .iter()
                .find(|candidate| Some(&candidate.address) == leader.as_ref());
            let next = || candidates.get(turn % candidates.len().max(1));
            let was_named = leader.is_some();
            let Some(candidate) = leader.or_else(next) else {
                return;
            };
            let ended = self.follow_once(candidate).await;
            tracing::debug!(
                namespace = self.key.namespace,
                name = self.key.name,
                pod = candidate.pod,
                error = ended.error,
                "the status stream ended"
            );
            self.watches.update(&self.key, &self.incarnation, |view| {
                let was_connected = std::mem::replace(&mut view.connected, false);
                view.error = Some(ended.error);
                was_connected
            });
            turn = turn.wrapping_add(1);
            // Two that name each other are not asked in circles without a pause.
            named = ended.leader.filter(|_| !was_named);
            if named.is_some() {
                continue;
            }
            backoff = match ended.heard || self.elected {
                true => BACKOFF_MIN,
                false => (backoff * 2).min(BACKOFF_MAX),
            };
            let pause = if self.elected { STANDBY_PAUSE } else { backoff };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.candidates.changed() => {}
            }
        }
    }

    /// Reads one stream to its end.
    async fn follow_once(&self, candidate: &Candidate) -> Ended {
        let mut ended = Ended {
            error: String::new(),
            heard: false,
            leader: None,
        };
        let mut client = match connect(&candidate.address).await {
            Ok(client) => client,
            Err(error) => return Ended { error, ..ended },
        };
        let request = WatchClusterRequest {
            protocol_version: CLUSTER_PROTOCOL_VERSION,
        };
        let mut stream = match client.watch_cluster(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                ended.leader = named_leader(&status);
                ended.error = describe(&status);
                return ended;
            }
        };
        ended.error = loop {
            match tokio::time::timeout(SILENCE_MAX, stream.message()).await {
                Ok(Ok(Some(snapshot))) => {
                    if let Some(epoch) = self.newer_epoch(&snapshot) {
                        break format!(
                            "it leads with epoch {}, and epoch {epoch} was there already",
                            snapshot.epoch
                        );
                    }
                    ended.heard = true;
                    self.watches.update(&self.key, &self.incarnation, |view| {
                        accept(view, candidate, snapshot)
                    });
                }
                Ok(Ok(None)) => break "the JobManager closed the stream".into(),
                Ok(Err(status)) => {
                    ended.leader = named_leader(&status);
                    break describe(&status);
                }
                Err(_) => break format!("the JobManager said nothing for {} s", SILENCE_MAX.as_secs()),
            }
        };
        ended
    }

    /// The epoch of a later leader that was heard; without an election epochs say nothing.
    fn newer_epoch(&self, snapshot: &ClusterSnapshot) -> Option<u64> {
        let known = self.watches.view(&self.key)?.leader?.epoch;
        (self.elected && known > snapshot.epoch).then_some(known)
    }
}

/// Takes a snapshot; whether it says anything new.
fn accept(view: &mut View, from: &Candidate, snapshot: ClusterSnapshot) -> bool {
    let leader = Leader {
        pod: from.pod.clone(),
        epoch: snapshot.epoch,
    };
    let news = !view.connected
        || view.leader.as_ref() != Some(&leader)
        || view.snapshot.as_deref() != Some(&snapshot);
    view.connected = true;
    view.error = None;
    if news {
        view.address = from.address.clone();
        view.leader = Some(leader);
        view.snapshot = Some(Arc::new(snapshot));
    }
    news
}

/// Of a standby's refusal, "standby; the leader is HOST:PORT (epoch N)".
fn named_leader(status: &tonic::Status) -> Option<String> {
    let (_, named) = status.message().split_once("the leader is ")?;
    let address = named.split_whitespace().next()?;
    (status.code() == tonic::Code::FailedPrecondition).then(|| format!("http://{address}"))
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
