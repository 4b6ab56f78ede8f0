//! One TCP connection to a broker: requests go out in order, answers come back in the same order.
//!
//! ```text
//!   call -> [bounded queue] -> write task -> broker
//!                                  | who waits, in order
//!   caller <---- answer ------ read task <- broker
//! ```
//!
//! A connection that failed once stays failed: all its callers hear why, and whoever holds it makes another. Dropping it ends both tasks.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, ApiVersionsRequest, ApiVersionsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, FetchRequest, FetchResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListTransactionsRequest, ListTransactionsResponse,
    MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::config::NetworkRules;

/// An answer is never so large; more is not Kafka that speaks.
const MAX_ANSWER: usize = 64 << 20;

/// A request with the newest version that is used of it.
pub(crate) trait Api: Encodable + HeaderVersion {
    const KEY: ApiKey;
    const NEWEST: i16;
    type Response: Decodable + HeaderVersion;
}

macro_rules! api {
    ($request:ty, $response:ty, $key:ident, $newest:literal) => {
        impl Api for $request {
            const KEY: ApiKey = ApiKey::$key;
            const NEWEST: i16 = $newest;
            type Response = $response;
        }
    };
}

api!(ApiVersionsRequest, ApiVersionsResponse, ApiVersions, 3);
api!(MetadataRequest, MetadataResponse, Metadata, 12);
api!(InitProducerIdRequest, InitProducerIdResponse, InitProducerId, 4);
// from 12 on a producer with transactions may leave out AddPartitionsToTxn, from 13 on topics have ids and no names
api!(ProduceRequest, ProduceResponse, Produce, 11);
// from 4 on for several at once
api!(
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    FindCoordinator,
    3
);
// from 4 on for brokers
api!(
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxn,
    3
);
// from 5 on the end of a transaction changes the epoch
api!(EndTxnRequest, EndTxnResponse, EndTxn, 4);
api!(
    ListTransactionsRequest,
    ListTransactionsResponse,
    ListTransactions,
    1
);
api!(
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    DescribeTransactions,
    0
);
api!(
    DescribeConfigsRequest,
    DescribeConfigsResponse,
    DescribeConfigs,
    4
);
api!(ListOffsetsRequest, ListOffsetsResponse, ListOffsets, 7);
// from 13 on topics have ids and no names
api!(FetchRequest, FetchResponse, Fetch, 12);

/// Why a call got no answer; each may pass by itself.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{address}: can't connect: {reason}")]
    Connect { address: String, reason: String },
    #[error("{address}: no answer within {after:?}")]
    TimedOut { address: String, after: Duration },
    #[error("{address}: {reason}")]
    Closed { address: String, reason: String },
    #[error("{address}: the broker is too old for {api:?}")]
    TooOld { address: String, api: ApiKey },
    #[error("{address}: {api:?} can't be read or written: {reason}")]
    Malformed {
        address: String,
        api: ApiKey,
        reason: String,
    },
}

/// Who waits for what is written.
enum Waiting {
    /// For the answer with this correlation id.
    Answer(i32, oneshot::Sender<Bytes>),
    /// For it to be written: there is no answer.
    Written(oneshot::Sender<Bytes>),
}

struct Outgoing {
    frame: Bytes,
    waiting: Waiting,
}

/// What both tasks and all callers know of a connection.
#[derive(Debug)]
struct Peer {
    address: String,
    /// Why it failed.
    reason: OnceLock<String>,
}

impl Peer {
    fn closed(&self) -> CallError {
        CallError::Closed {
            address: self.address.clone(),
            reason: self
                .reason
                .get()
                .cloned()
                .unwrap_or_else(|| "connection closed".to_owned()),
        }
    }

    fn decode<R: Api>(&self, mut answer: Bytes, version: i16) -> Result<R::Response, CallError> {
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version));
        header
            .and_then(|_| R::Response::decode(&mut answer, version))
            .map_err(|error| self.malformed(R::KEY, &error))
    }

    fn malformed(&self, api: ApiKey, reason: &dyn fmt::Display) -> CallError {
        CallError::Malformed {
            address: self.address.clone(),
            api,
            reason: reason.to_string(),
        }
    }
}

/// A connection whose versions are agreed.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: Arc<Peer>,
    queue: mpsc::Sender<Outgoing>,
    versions: HashMap<i16, (i16, i16)>,
    next_id: AtomicI32,
    client_id: StrBytes,
    request_timeout: Duration,
    tasks: [AbortHandle; 2],
}

impl Drop for Connection {
    fn drop(&mut self) {
        // who waits hears that it is closed
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Connection {
    /// Connects, and asks for the broker's versions.
    pub(crate) async fn open(host: &str, port: u16, rules: &NetworkRules) -> Result<Self, CallError> {
        let address = format!("{host}:{port}");
        let failed = |reason: String| CallError::Connect {
            address: address.clone(),
            reason,
        };
        let stream = timeout(rules.connect_timeout, TcpStream::connect((host, port)))
            .await
            .map_err(|_| failed(format!("nothing within {:?}", rules.connect_timeout)))?
            .map_err(|error| failed(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| failed(error.to_string()))?;
        let mut connection = Self::over(stream, address, rules);
        connection.versions = connection.ask_versions().await?;
        Ok(connection)
    }

    fn over(stream: TcpStream, address: String, rules: &NetworkRules) -> Self {
        let peer = Arc::new(Peer {
            address,
            reason: OnceLock::new(),
        });
        let (read, write) = stream.into_split();
        let (queue, outgoing) = mpsc::channel(rules.requests);
        let (waiting, answers) = mpsc::channel(rules.requests);
        let writer = tokio::spawn(write_task(write, outgoing, waiting, Arc::clone(&peer)));
        let reader = tokio::spawn(read_task(BufReader::new(read), answers, Arc::clone(&peer)));
        Self {
            peer,
            queue,
            versions: HashMap::new(),
            next_id: AtomicI32::new(0),
            client_id: StrBytes::from_string(rules.client_id.clone()),
            request_timeout: rules.request_timeout,
            tasks: [writer.abort_handle(), reader.abort_handle()],
        }
    }

    async fn ask_versions(&self) -> Result<HashMap<i16, (i16, i16)>, CallError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("thalweg"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut version = ApiVersionsRequest::NEWEST;
        let mut answer = self.exchange(&request, version)?.await?;
        // correlation id, then the error: a broker that doesn't know the version says so in the oldest one
        if answer.get(4..6) == Some(&ResponseError::UnsupportedVersion.code().to_be_bytes()[..]) {
            version = 0;
            answer = self.exchange(&request, version)?.await?;
        }
        let versions = self.peer.decode::<ApiVersionsRequest>(answer, version)?;
        Ok(versions
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect())
    }

    /// Sends a request now, in the order of the calls; the answer comes with the future, which doesn't keep the connection.
    pub(crate) fn call<R: Api>(
        &self,
        request: &R,
    ) -> Result<impl Future<Output = Result<R::Response, CallError>> + Send + use<R>, CallError> {
        let version = self.version::<R>()?;
        let exchange = self.exchange(request, version)?;
        let peer = Arc::clone(&self.peer);
        Ok(async move { peer.decode::<R>(exchange.await?, version) })
    }

    /// Sends a request that has no answer; ready once it is written.
    pub(crate) fn tell<R: Api>(
        &self,
        request: &R,
    ) -> Result<impl Future<Output = Result<(), CallError>> + Send + use<R>, CallError> {
        let (written, wait) = oneshot::channel();
        let (frame, _) = self.frame(request, self.version::<R>()?)?;
        self.enqueue(frame, Waiting::Written(written))?;
        let wait = self.wait(wait);
        Ok(async move { wait.await.map(drop) })
    }

    fn version<R: Api>(&self) -> Result<i16, CallError> {
        let agreed = self.versions.get(&(R::KEY as i16)).copied();
        agreed
            .map(|(oldest, newest)| (oldest, newest.min(R::NEWEST)))
            .filter(|(oldest, version)| oldest <= version)
            .map(|(_, version)| version)
            .ok_or_else(|| CallError::TooOld {
                address: self.peer.address.clone(),
                api: R::KEY,
            })
    }

    fn exchange<R: Api>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<impl Future<Output = Result<Bytes, CallError>> + Send + use<R>, CallError> {
        let (answer, wait) = oneshot::channel();
        let (frame, id) = self.frame(request, version)?;
        self.enqueue(frame, Waiting::Answer(id, answer))?;
        Ok(self.wait(wait))
    }

    fn wait(
        &self,
        answer: oneshot::Receiver<Bytes>,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + use<> {
        let (peer, after) = (Arc::clone(&self.peer), self.request_timeout);
        async move {
            match timeout(after, answer).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_)) => Err(peer.closed()),
                Err(_) => Err(CallError::TimedOut {
                    address: peer.address.clone(),
                    after,
                }),
            }
        }
    }

    fn enqueue(&self, frame: Bytes, waiting: Waiting) -> Result<(), CallError> {
        self.queue
            .try_send(Outgoing { frame, waiting })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => CallError::Closed {
                    address: self.peer.address.clone(),
                    reason: "too many requests wait for the socket".to_owned(),
                },
                mpsc::error::TrySendError::Closed(_) => self.peer.closed(),
            })
    }

    fn frame<R: Api>(&self, request: &R, version: i16) -> Result<(Bytes, i32), CallError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY as i16)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(self.client_id.clone()));
        let failed = |error| self.peer.malformed(R::KEY, &error);
        let size = request.compute_size(version).map_err(failed)?;
        let mut frame = BytesMut::with_capacity(size + 32 + self.client_id.len());
        frame.put_i32(0);
        header
            .encode(&mut frame, R::header_version(version))
            .map_err(failed)?;
        request.encode(&mut frame, version).map_err(failed)?;
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok((frame.freeze(), id))
    }
}

async fn write_task(
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Outgoing>,
    answers: mpsc::Sender<(i32, oneshot::Sender<Bytes>)>,
    peer: Arc<Peer>,
) {
    while let Some(Outgoing { frame, waiting }) = queue.recv().await {
        let written = match waiting {
            Waiting::Answer(id, answer) => {
                // the reader is gone: it has said why
                if answers.send((id, answer)).await.is_err() {
                    return;
                }
                None
            }
            Waiting::Written(written) => Some(written),
        };
        if let Err(error) = stream.write_all(&frame).await {
            let _ = peer.reason.set(error.to_string());
            return;
        }
        if let Some(written) = written {
            // who waited may be gone
            let _ = written.send(Bytes::new());
        }
    }
}

async fn read_task(
    mut stream: BufReader<OwnedReadHalf>,
    mut answers: mpsc::Receiver<(i32, oneshot::Sender<Bytes>)>,
    peer: Arc<Peer>,
) {
    loop {
        // A request is known here before it is written, so bytes that nobody waits for are not an answer.
        let (id, waiting) = tokio::select! {
            biased;
            next = answers.recv() => match next {
                Some(next) => next,
                None => return,
            },
            bytes = stream.fill_buf() => {
                let reason = match bytes {
                    Ok([]) => "the broker closed the connection".to_owned(),
                    Ok(_) => "the broker sent what nobody had asked for".to_owned(),
                    Err(error) => error.to_string(),
                };
                let _ = peer.reason.set(reason);
                return;
            }
        };
        match read_answer(&mut stream, id).await {
            // who waited may be gone
            Ok(answer) => drop(waiting.send(answer)),
            Err(reason) => {
                // before `waiting` is dropped: its caller wants to know why
                let _ = peer.reason.set(reason);
                return;
            }
        }
    }
}

/// One answer, with its header.
async fn read_answer(stream: &mut BufReader<OwnedReadHalf>, id: i32) -> Result<Bytes, String> {
    let closed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the broker closed the connection".to_owned(),
        _ => error.to_string(),
    };
    let length = stream.read_i32().await.map_err(closed)?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| (4..=MAX_ANSWER).contains(length))
        .ok_or_else(|| format!("an answer of {length} bytes: is this a Kafka broker's PLAINTEXT port?"))?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.map_err(closed)?;
    let answer = Bytes::from(answer);
    match answer.clone().get_i32() {
        found if found == id => Ok(answer),
        found => Err(format!(
            "an answer to request {found} came where {id} was waited for"
        )),
    }
}
