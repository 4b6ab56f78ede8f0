//! A model of a broker: one topic, transactions, and faults at any request, over a socket to the real sink.
//!
//! ```text
//!   sink -> frame -> [fault?] -> wire -> coordinator, partitions -> [fault?] -> answer -> sink
//! ```
//!
//! `coordinator` and `partition` are pure and say what Kafka's broker does; `wire` translates. What the broker has taken is durable, so a
//! lost connection is a broker that crashed and is back at once. Between a decision and its markers pass `lag` requests.

mod coordinator;
mod partition;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use self::coordinator::Coordinator;
use self::partition::Partition;
use self::wire::Request;

/// What happens at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The broker crashes before it has taken it.
    LoseRequest,
    /// The broker crashes when it has taken it: nobody hears the answer.
    LoseAnswer,
    /// The broker isn't the right one any more, for requests that ask for the right one.
    Refuse,
    /// The writer is killed before the broker has taken it.
    KillBefore,
    /// The writer is killed when the broker has taken it.
    KillAfter,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [
        Self::LoseRequest,
        Self::LoseAnswer,
        Self::Refuse,
        Self::KillBefore,
        Self::KillAfter,
    ];

    fn takes(self) -> bool {
        matches!(self, Self::LoseAnswer | Self::Refuse | Self::KillAfter)
    }

    fn kills(self) -> bool {
        matches!(self, Self::KillBefore | Self::KillAfter)
    }
}

/// All that the broker knows.
pub(crate) struct State {
    port: u16,
    coordinator: Coordinator,
    partitions: Vec<Partition>,
    pub(crate) topic_deleted: bool,
    pub(crate) without_coordinator: bool,
    pub(crate) max_timeout_ms: i32,
    /// The answer to all about transactions.
    pub(crate) transactions_refused: Option<ResponseError>,
    /// The fault that comes after so many requests.
    fault: Option<(usize, Fault)>,
    killed: bool,
    /// What was asked, without `ApiVersions`.
    pub(crate) requests: Vec<ApiKey>,
    /// No id gets an identity now.
    pub(crate) ids_busy: bool,
}

impl State {
    /// All about transactions that has been decided is in the logs.
    pub(crate) fn settle(&mut self) {
        self.write_markers(true);
    }

    fn write_markers(&mut self, all: bool) {
        for marker in self.coordinator.markers(all) {
            for partition in marker.partitions {
                self.partitions[partition].mark(marker.identity, marker.commit);
            }
        }
    }

    /// Everything that is open has been open for too long, and is aborted.
    pub(crate) fn expire(&mut self) {
        self.coordinator.expire();
        self.settle();
    }

    /// The coordinator has forgotten all ids of which nothing is open.
    pub(crate) fn forget_ids(&mut self) {
        self.settle();
        self.coordinator.forget();
    }

    /// Ids of what is open.
    pub(crate) fn open(&self) -> Vec<String> {
        self.coordinator.ongoing().into_iter().map(|(id, _)| id).collect()
    }

    /// What a reader of committed records gets.
    pub(crate) fn committed(&self) -> Vec<i64> {
        let mut values: Vec<_> = self.partitions.iter().flat_map(Partition::committed).collect();
        values.sort_unstable();
        values
    }

    /// Retention has removed what is there.
    pub(crate) fn remove_records(&mut self) {
        for partition in &mut self.partitions {
            let end = partition.end;
            partition.delete_before(end);
        }
    }

    /// The topic is deleted, and made anew.
    pub(crate) fn make_topic_anew(&mut self) {
        self.partitions
            .iter_mut()
            .for_each(|partition| *partition = Partition::default());
    }

    pub(crate) fn arm(&mut self, after: usize, fault: Fault) {
        self.fault = Some((after, fault));
    }

    /// The fault that happens at this request.
    fn strikes(&mut self) -> Option<Fault> {
        match &mut self.fault {
            Some((0, fault)) => {
                let fault = *fault;
                self.fault = None;
                Some(fault)
            }
            Some((after, _)) => {
                *after -= 1;
                None
            }
            None => None,
        }
    }

    /// The answer, if it is to arrive.
    fn take(&mut self, request: &Request) -> Option<Bytes> {
        if request.key == ApiKey::ApiVersions {
            return Some(self.serve(request, false));
        }
        self.requests.push(request.key);
        self.write_markers(false);
        let fault = self.strikes();
        self.killed |= fault.is_some_and(Fault::kills);
        let answer = fault
            .is_none_or(Fault::takes)
            .then(|| self.serve(request, fault == Some(Fault::Refuse)));
        answer.filter(|_| matches!(fault, None | Some(Fault::Refuse)))
    }
}

/// The broker, as long as it isn't dropped.
pub(crate) struct Broker {
    shared: Arc<Shared>,
    pub(crate) servers: String,
    accepting: AbortHandle,
}

struct Shared {
    state: Mutex<State>,
    struck: Notify,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Broker {
    pub(crate) fn start(io: &Runtime, partitions: usize, lag: usize) -> Self {
        let listener = io.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                port: address.port(),
                coordinator: Coordinator::new(lag),
                partitions: (0..partitions).map(|_| Partition::default()).collect(),
                topic_deleted: false,
                without_coordinator: false,
                max_timeout_ms: 900_000,
                transactions_refused: None,
                fault: None,
                killed: false,
                requests: Vec::new(),
                ids_busy: false,
            }),
            struck: Notify::new(),
        });
        let accepting = io.spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self {
            shared,
            servers: address.to_string(),
            accepting,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// When a fault kills the writer.
    pub(crate) async fn killed(&self) {
        while !std::mem::take(&mut self.lock().killed) {
            self.shared.struck.notified().await;
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

/// One connection, until either side has enough.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    while let Ok(length) = stream.read_i32().await {
        let mut frame = vec![0; length as usize];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let request = Request::of(frame.into());
        let (answer, killed) = {
            let mut state = shared.state.lock().unwrap();
            (state.take(&request), state.killed)
        };
        if killed {
            shared.struck.notify_one();
        }
        match answer {
            Some(answer) if stream.write_all(&answer).await.is_ok() => {}
            _ => return,
        }
    }
}
