//! Who should lead: advice. Who does lead, the log in storage says.
//!
//! ```text
//!   LeaseElection (Kubernetes)  \
//!                                }--ElectionEvent--> leadership: looks at leader/, takes the next number, leads
//!   StorageElection (elsewhere) /
//!       leader/<newest> --rpc_address--> Leader(): it leads --> wait;  silent for the time-out --> Granted
//! ```
//!
//! Wrong advice costs time, never correctness: two that are told to lead race for one number, and who is overtaken fails at its
//! next append.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_proto::control::v1::{LeaderRequest, LeaderResponse};
use thalweg_proto::ha::v1::record::Content;
use thalweg_proto::ha::v1::{Leader, Record};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::log::{LogError, RecordLog, RecordStore};

/// Events that wait to be looked at.
const EVENTS: usize = 8;
/// How long a look at `leader/` is good while the leader answers.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// This JobManager, as it stands for election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Random, one a process.
    pub instance: String,
    /// `host:port` at which others reach its gRPC services.
    pub rpc_address: String,
    /// `host:port` of its REST API.
    pub rest_address: String,
}

/// Advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElectionEvent {
    /// This JobManager should lead. It is said again as long as it holds, at most about once a second: an attempt may fail, and
    /// to one that leads already it says nothing new.
    Granted,
    /// Somebody else may lead now, or nobody knows: a leader looks whether it has a successor, and goes on if it has none.
    Revoked,
    /// Somebody else leads, and is alive.
    Leader {
        /// As far as it is known; for people.
        address: String,
    },
}

/// An election's events, without end.
pub type ElectionEvents = Pin<Box<dyn Stream<Item = ElectionEvent> + Send>>;

/// A way to find out who should lead.
pub trait Election: Send + Sync {
    /// Stands for election until the stream is dropped.
    fn campaign(&self, candidate: Candidate) -> ElectionEvents;
}

/// By the log alone: whoever leads has to answer.
pub(crate) struct StorageElection {
    store: Arc<dyn RecordStore>,
    timeout: Duration,
}

impl StorageElection {
    pub(crate) fn new(store: Arc<dyn RecordStore>, timeout: Duration) -> Self {
        Self { store, timeout }
    }
}

impl Election for StorageElection {
    fn campaign(&self, candidate: Candidate) -> ElectionEvents {
        let (events, stream) = mpsc::channel(EVENTS);
        let watch = Watch {
            leaders: RecordLog::of_leaders(self.store.clone()),
            candidate,
            timeout: self.timeout,
            newest: None,
            looked: None,
            silent_since: None,
        };
        tokio::spawn(watch.run(events));
        Box::pin(ReceiverStream::new(stream))
    }
}

/// The newest leader's sign of life.
struct Watch {
    leaders: RecordLog,
    candidate: Candidate,
    timeout: Duration,
    newest: Option<Record>,
    looked: Option<Instant>,
    silent_since: Option<Instant>,
}

impl Watch {
    async fn run(mut self, events: mpsc::Sender<ElectionEvent>) {
        let pause = (self.timeout / 6).min(LONGEST_PAUSE);
        loop {
            match self.look().await {
                Ok(Some(event)) => {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "who leads can't be looked up, trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = events.closed() => return,
            }
        }
    }

    async fn look(&mut self) -> Result<Option<ElectionEvent>, LogError> {
        let is_fresh = self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY);
        if !is_fresh || self.silent_since.is_some() || self.newest.is_none() {
            let newest = newest_leader(&self.leaders).await?;
            self.looked = Some(Instant::now());
            if newest.as_ref().map(|newest| newest.number) != self.newest.as_ref().map(|known| known.number) {
                self.silent_since = None;
                self.newest = newest;
            }
        }
        let Some((record, leader)) = self.newest.as_ref().and_then(leader_of) else {
            return Ok(Some(ElectionEvent::Granted));
        };
        if record.instance == self.candidate.instance {
            return Ok(None);
        }
        // It was at this address, which is this process's now.
        if leader.rpc_address == self.candidate.rpc_address {
            return Ok(Some(ElectionEvent::Granted));
        }
        let answer = ask(&leader.rpc_address, self.timeout / 3).await;
        if answer.is_some_and(|answer| answer.is_leader && answer.epoch == record.number) {
            self.silent_since = None;
            let address = leader.rpc_address.clone();
            return Ok(Some(ElectionEvent::Leader { address }));
        }
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        Ok((since.elapsed() >= self.timeout).then_some(ElectionEvent::Granted))
    }
}

/// The newest record in `leader/`.
pub(crate) async fn newest_leader(leaders: &RecordLog) -> Result<Option<Record>, LogError> {
    match leaders.newest().await? {
        0 => Ok(None),
        number => leaders.read(number).await.map(Some),
    }
}

/// A record of `leader/`, with what it says.
pub(crate) fn leader_of(record: &Record) -> Option<(&Record, &Leader)> {
    match &record.content {
        Some(Content::Leader(leader)) => Some((record, leader)),
        _ => None,
    }
}

async fn ask(address: &str, timeout: Duration) -> Option<LeaderResponse> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    let asking = async {
        let channel = endpoint.connect_timeout(timeout).connect().await.ok()?;
        let answer = JobManagerClient::new(channel).leader(LeaderRequest {}).await;
        answer.ok().map(tonic::Response::into_inner)
    };
    tokio::time::timeout(timeout, asking).await.ok()?
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::super::log::Writer;
    use super::super::testing::Memory;
    use super::*;

    fn candidate(instance: &str, port: u16) -> Candidate {
        Candidate {
            instance: instance.to_owned(),
            rpc_address: format!("127.0.0.1:{port}"),
            rest_address: String::new(),
        }
    }

    async fn led_by(store: &Arc<Memory>, candidate: &Candidate) {
        let writer = Writer {
            instance: candidate.instance.clone(),
            epoch: 1,
        };
        let content = Content::Leader(Leader {
            rpc_address: candidate.rpc_address.clone(),
            ..Leader::default()
        });
        let leaders = RecordLog::of_leaders(store.clone());
        leaders.append(&writer, 1, 1, content, 0).await.unwrap();
    }

    async fn first_event(store: &Arc<Memory>, candidate: Candidate) -> ElectionEvent {
        let election = StorageElection::new(store.clone(), Duration::from_millis(300));
        let mut events = election.campaign(candidate);
        let first = tokio::time::timeout(Duration::from_secs(60), events.next());
        first.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn the_first_one_is_granted_leadership() {
        let event = first_event(&Memory::new(), candidate("me", 1)).await;
        assert_eq!(event, ElectionEvent::Granted);
    }

    #[tokio::test]
    async fn a_leader_that_does_not_answer_is_followed_by_another() {
        let store = Memory::new();
        // Nothing listens there: the port is let go again.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        led_by(&store, &candidate("gone", port)).await;
        let begun = Instant::now();
        assert_eq!(
            first_event(&store, candidate("me", 1)).await,
            ElectionEvent::Granted
        );
        assert!(begun.elapsed() >= Duration::from_millis(300), "it had its time");
    }

    #[tokio::test]
    async fn who_starts_again_at_the_leaders_address_follows_at_once() {
        let store = Memory::new();
        led_by(&store, &candidate("before", 77)).await;
        assert_eq!(
            first_event(&store, candidate("me", 77)).await,
            ElectionEvent::Granted
        );
    }
}
