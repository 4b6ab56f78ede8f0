//! The consumer's end of connections: one to each producer's process, dialled when the first channel to it is opened.
//!
//! Its I/O task reads frames, puts elements together and lays them into inboxes; it waits for no inbox, since a producer
//! can't send more than the window that its consumer granted. Tasks decode, and grant what they took.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arrow::error::ArrowError;

use thalweg_types::StreamElement;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::channel::{ChannelCounters, ChannelId, count_received};
use crate::error::{ExchangeError, HandshakeRefusal};
use crate::queue::{ElementQueue, Measured, MergeLimit};
use crate::ready::{ReadySlot, lock};
use crate::wire::codec::{Decoder, ReceivedElement};
use crate::wire::connection::{Assembler, read_header};
use crate::wire::frame::{Failed, FrameError, FrameHeader, FrameKind, Open};
use crate::wire::handshake::{HandshakeError, greet};

const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LAST_BACKOFF: Duration = Duration::from_secs(1);
/// Room for headers and small elements; the rest of a large frame is read into its element directly.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// What all connections to producers share.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    pub(crate) token: Arc<str>,
    /// How long a producer's process may take to answer, and then its task to be deployed.
    pub(crate) partition_timeout: Duration,
}

/// The connections of a process to producers, by address. Dropped, it closes them.
#[derive(Debug)]
pub(crate) struct Clients {
    io: Handle,
    config: ClientConfig,
    connections: Mutex<HashMap<String, (Arc<Connection>, AbortHandle)>>,
}

impl Clients {
    pub(crate) fn new(io: Handle, config: ClientConfig) -> Self {
        Self {
            io,
            config,
            connections: Mutex::default(),
        }
    }

    /// Opens a channel. That it can't be opened is said by its reader.
    pub(crate) fn open(
        &self,
        channel: ChannelId,
        address: String,
        window: usize,
        slot: Arc<ReadySlot>,
    ) -> RemoteReader {
        let inbox = Arc::new(Inbox {
            channel,
            slot,
            queue: ElementQueue::default(),
            complete: AtomicBool::new(false),
            failure: OnceLock::new(),
        });
        let open = Open {
            channel,
            window: window as u64,
            wait: self.config.partition_timeout,
        };
        let mut connections = lock(&self.connections);
        connections.retain(|_, (connection, _)| !connection.is_lost());
        let open_at =
            |connection: &Arc<Connection>| connection.open(open, &inbox).map(|n| (n, connection.clone()));
        let opened = connections
            .get(&address)
            .and_then(|(connection, _)| open_at(connection));
        let (number, connection) = opened.unwrap_or_else(|| {
            let connection = Arc::new(Connection::new(address.clone()));
            let number = connection.open(open, &inbox).unwrap_or_default(); // a fresh one is not closed
            let run = run(FailOnDrop(connection.clone()), self.config.clone());
            let task = self.io.spawn(run).abort_handle();
            connections.insert(address, (connection.clone(), task));
            (number, connection)
        });
        RemoteReader {
            inbox,
            number,
            connection,
            decoder: Decoder::default(),
            grant_at: (window / 4).max(1),
            taken: 0,
            run: Vec::new(),
            counters: Arc::default(),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        lock(&self.connections)
            .drain()
            .for_each(|(_, (_, task))| task.abort());
    }
}

/// What has come for one channel.
#[derive(Debug)]
struct Inbox {
    channel: ChannelId,
    slot: Arc<ReadySlot>,
    queue: ElementQueue<ReceivedElement>,
    /// The end of input is in the queue, or was: what happens to the connection doesn't matter any more.
    complete: AtomicBool,
    failure: OnceLock<ExchangeError>,
}

impl Inbox {
    fn fail(&self, error: ExchangeError) {
        if !self.complete.load(Ordering::Acquire) && self.failure.set(error).is_ok() {
            self.queue.clear();
            self.slot.notify();
        }
    }
}

impl Measured for ReceivedElement {
    fn batch_rows(&self) -> Option<usize> {
        Self::batch_rows(self)
    }

    fn cost(&self) -> usize {
        Self::cost(self)
    }
}

/// The consumer's end of a remote channel.
#[derive(Debug)]
pub(crate) struct RemoteReader {
    inbox: Arc<Inbox>,
    number: u32,
    connection: Arc<Connection>,
    decoder: Decoder,
    /// Credit goes back in portions of this.
    grant_at: usize,
    taken: usize,
    run: Vec<ReceivedElement>,
    counters: Arc<ChannelCounters>,
}

impl RemoteReader {
    pub(crate) fn id(&self) -> ChannelId {
        self.inbox.channel
    }

    pub(crate) fn counters(&self) -> &Arc<ChannelCounters> {
        &self.counters
    }

    /// See [`crate::channel::ChannelReader::take`].
    pub(crate) fn take(
        &mut self,
        limit: MergeLimit,
        out: &mut Vec<StreamElement>,
    ) -> Result<bool, ExchangeError> {
        if let Some(failure) = self.inbox.failure.get() {
            return Err(failure.clone());
        }
        let more = self.inbox.queue.pop_run(limit, &mut self.run);
        let mut ended = false;
        for received in self.run.drain(..) {
            let element = self
                .decoder
                .decode(&received)
                .map_err(|source| decode_error(&self.inbox, &self.connection, source))?;
            self.taken += received.cost();
            ended |= received.is_end_of_input();
            count_received(&self.counters, &element, received.cost());
            out.push(element);
        }
        if ended {
            self.close();
        } else if self.taken >= self.grant_at {
            self.connection
                .grant(self.number, std::mem::take(&mut self.taken));
        }
        Ok(more)
    }

    /// The barriers that lie there, in order.
    pub(crate) fn peek_barriers(&self) -> Result<Vec<StreamElement>, ExchangeError> {
        let barriers = self.inbox.queue.peek_all(ReceivedElement::is_barrier);
        let decoded: Result<Vec<_>, _> = barriers.iter().map(decode_barrier).collect();
        decoded.map_err(|source| decode_error(&self.inbox, &self.connection, source))
    }

    /// What lies there up to this checkpoint's barrier, decoded aside.
    pub(crate) fn peek_to_barrier(
        &self,
        checkpoint_id: u64,
    ) -> Result<Option<Vec<StreamElement>>, ExchangeError> {
        let is_it = |received: &ReceivedElement| {
            let barrier = received.is_barrier().then(|| decode_barrier(received));
            matches!(barrier, Some(Ok(StreamElement::Barrier(barrier))) if barrier.checkpoint_id == checkpoint_id)
        };
        self.decode_aside(self.inbox.queue.peek_to(is_it))
    }

    /// What lies there up to the end of the input, decoded aside.
    pub(crate) fn peek_to_end(&self) -> Result<Option<Vec<StreamElement>>, ExchangeError> {
        self.decode_aside(self.inbox.queue.peek_to(ReceivedElement::is_end_of_input))
    }

    fn decode_aside(
        &self,
        received: Option<Vec<ReceivedElement>>,
    ) -> Result<Option<Vec<StreamElement>>, ExchangeError> {
        let Some(received) = received else {
            return Ok(None);
        };
        let mut decoder = self.decoder.clone();
        let decoded: Result<Vec<_>, _> = received.iter().map(|received| decoder.decode(received)).collect();
        decoded
            .map(Some)
            .map_err(|source| decode_error(&self.inbox, &self.connection, source))
    }

    /// Lets the producer's process know that nobody reads on.
    pub(crate) fn close(&mut self) {
        self.connection.close(self.number);
    }
}

/// A control element needs nothing of what was decoded before.
fn decode_barrier(received: &ReceivedElement) -> Result<StreamElement, ArrowError> {
    Decoder::default().decode(received)
}

fn decode_error(inbox: &Inbox, connection: &Connection, source: ArrowError) -> ExchangeError {
    ExchangeError::Decode {
        channel: inbox.channel,
        address: connection.address.clone(),
        source: Arc::new(source),
    }
}

/// One connection, from before it is made until it is lost.
#[derive(Debug)]
struct Connection {
    address: String,
    state: Mutex<State>,
    outgoing: Notify,
}

#[derive(Debug, Default)]
struct State {
    next_number: u32,
    inboxes: HashMap<u32, Arc<Inbox>>,
    /// Frames to be written: an OPEN, a CLOSE and at most four times its window's CREDIT a channel.
    frames: Vec<u8>,
    lost: bool,
}

impl Connection {
    fn new(address: String) -> Self {
        Self {
            address,
            state: Mutex::default(),
            outgoing: Notify::new(),
        }
    }

    /// The channel's number; `None` = the connection is lost, another is needed.
    fn open(&self, open: Open, inbox: &Arc<Inbox>) -> Option<u32> {
        let mut state = lock(&self.state);
        if state.lost || state.next_number == u32::MAX {
            return None;
        }
        let number = state.next_number;
        state.next_number += 1;
        state.inboxes.insert(number, inbox.clone());
        self.write(&mut state, FrameKind::Open, number, &open.encode());
        Some(number)
    }

    fn is_lost(&self) -> bool {
        lock(&self.state).lost
    }

    fn grant(&self, number: u32, bytes: usize) {
        let mut state = lock(&self.state);
        self.write(
            &mut state,
            FrameKind::Credit,
            number,
            &(bytes as u64).to_le_bytes(),
        );
    }

    fn close(&self, number: u32) {
        let mut state = lock(&self.state);
        if state.inboxes.remove(&number).is_some() {
            self.write(&mut state, FrameKind::Close, number, &[]);
        }
    }

    fn write(&self, state: &mut State, kind: FrameKind, number: u32, body: &[u8]) {
        if !state.lost {
            state
                .frames
                .extend_from_slice(&FrameHeader::new(kind, number, body.len()).encode());
            state.frames.extend_from_slice(body);
            self.outgoing.notify_one();
        }
    }

    fn inbox(&self, number: u32) -> Option<Arc<Inbox>> {
        lock(&self.state).inboxes.get(&number).cloned()
    }

    /// Nothing comes on any channel any more.
    fn lose(&self, error: impl Fn(ChannelId) -> ExchangeError) {
        let mut state = lock(&self.state);
        state.lost = true;
        state.frames = Vec::new();
        for (_, inbox) in state.inboxes.drain() {
            inbox.fail(error(inbox.channel));
        }
    }

    async fn read(&self, reader: OwnedReadHalf, waited: Duration) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
        let mut assembler = Assembler::default();
        while let Some(header) = read_header(&mut reader).await? {
            let inbox = self.inbox(header.channel);
            match (header.kind, inbox) {
                (FrameKind::Data, Some(inbox)) => {
                    if let Some(bytes) = assembler.read(header, &mut reader).await? {
                        receive(&inbox, bytes)?;
                    }
                }
                (FrameKind::Failed, Some(inbox)) => {
                    let mut body = vec![0; header.length as usize];
                    reader.read_exact(&mut body).await?;
                    assembler.forget(header.channel);
                    inbox.fail(self.failure(inbox.channel, Failed::decode(&body), waited));
                    lock(&self.state).inboxes.remove(&header.channel);
                }
                // Closed here while this was under way.
                (FrameKind::Data | FrameKind::Failed, None) => {
                    assembler.forget(header.channel);
                    discard(&mut reader, header.length).await?;
                }
                (kind, _) => {
                    return Err(io::Error::other(FrameError::Unexpected {
                        kind,
                        channel: header.channel,
                    }));
                }
            }
        }
        Ok(())
    }

    fn failure(&self, channel: ChannelId, failed: Failed, waited: Duration) -> ExchangeError {
        let address = self.address.clone();
        match failed {
            Failed::NotFound => ExchangeError::PartitionNotFound {
                channel,
                address,
                waited,
            },
            Failed::Released => ExchangeError::ProducerReleased { channel, address },
            Failed::Taken => ExchangeError::PartitionTaken { channel },
            Failed::Other(cause) => ExchangeError::ProducerLost {
                channel,
                address,
                cause,
            },
        }
    }

    async fn write_frames(&self, mut writer: OwnedWriteHalf) -> io::Result<()> {
        loop {
            let frames = std::mem::take(&mut lock(&self.state).frames);
            if frames.is_empty() {
                self.outgoing.notified().await;
            } else {
                writer.write_all(&frames).await?;
            }
        }
    }
}

fn receive(inbox: &Inbox, bytes: Vec<u8>) -> io::Result<()> {
    let received = ReceivedElement::new(bytes)
        .ok_or_else(|| io::Error::other("protocol error: an element of no kind"))?;
    if received.is_end_of_input() {
        inbox.complete.store(true, Ordering::Release);
    }
    let worth_a_look = received.is_barrier() || received.is_end_of_input();
    inbox.queue.push(received);
    inbox.slot.notify();
    if worth_a_look {
        inbox.slot.note_barrier();
    }
    Ok(())
}

async fn discard(reader: &mut (impl AsyncRead + Unpin), length: u32) -> io::Result<()> {
    let discarded = tokio::io::copy(&mut reader.take(length.into()), &mut tokio::io::sink()).await?;
    if discarded < length.into() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(())
    }
}

/// Whatever ends the I/O task, no consumer waits for ever.
struct FailOnDrop(Arc<Connection>);

impl Drop for FailOnDrop {
    fn drop(&mut self) {
        let address = &self.0.address;
        self.0.lose(|channel| ExchangeError::ProducerLost {
            channel,
            address: address.clone(),
            cause: "the exchange of this process was closed".to_owned(),
        });
    }
}

async fn run(connection: FailOnDrop, config: ClientConfig) {
    let connection = &connection.0;
    let address = &connection.address;
    let waited = config.partition_timeout;
    let stream = match connect(address, &config.token, waited).await {
        Ok(stream) => stream,
        Err(ConnectError::Refused(refusal)) => {
            return connection.lose(|channel| {
                let address = address.clone();
                ExchangeError::Handshake {
                    address,
                    channel,
                    refusal,
                }
            });
        }
        Err(ConnectError::Unreachable(source)) => {
            let source = Arc::new(source);
            return connection.lose(|channel| {
                let (address, source) = (address.clone(), source.clone());
                ExchangeError::Connect {
                    address,
                    channel,
                    waited,
                    source,
                }
            });
        }
    };
    let (reader, writer) = stream.into_split();
    let ended = tokio::select! {
        read = connection.read(reader, waited) => read,
        written = connection.write_frames(writer) => written,
    };
    let cause = ended.map_or_else(
        |error| error.to_string(),
        |()| "closed by the other side".to_owned(),
    );
    connection.lose(|channel| {
        let (address, cause) = (address.clone(), cause.clone());
        ExchangeError::ProducerLost {
            channel,
            address,
            cause,
        }
    });
}

enum ConnectError {
    Refused(HandshakeRefusal),
    Unreachable(io::Error),
}

/// Tries until the time is over: the producer's process may still be starting.
async fn connect(address: &str, token: &str, patience: Duration) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + patience;
    let mut backoff = FIRST_BACKOFF;
    loop {
        let attempt = timeout_at(deadline, attempt(address, token)).await;
        let error = match attempt.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
            Ok(stream) => return Ok(stream),
            Err(HandshakeError::Refused(refusal)) => return Err(ConnectError::Refused(refusal)),
            Err(HandshakeError::Io(error)) => error,
        };
        if Instant::now() + backoff >= deadline {
            return Err(ConnectError::Unreachable(error));
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(LAST_BACKOFF);
    }
}

async fn attempt(address: &str, token: &str) -> Result<TcpStream, HandshakeError> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    greet(&mut stream, token).await?;
    Ok(stream)
}
