//! The producer's end of connections: opens subpartitions for consumers, writes their elements, takes their credit.
//!
//! Per connection one reader and one writer, both in one I/O task. The writer takes the next element of a subpartition
//! only when the one before is written: what waits, waits in the subpartition.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use arrow::buffer::Buffer;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::error::ExchangeError;
use crate::local::{Consumer, Outbound, ProducerGone, Subpartition};
use crate::queue::{Measured, MergeLimit};
use crate::ready::{ReadyList, ReadySlot, lock};
use crate::registry::Registry;
use crate::wire::codec::{EncodedElement, Encoder};
use crate::wire::connection::{Multiplexer, read_header, write_all};
use crate::wire::frame::{
    CREDIT_BYTES, Failed, Fields, FrameError, FrameHeader, FrameKind, MAX_FRAME_BYTES, OPEN_BYTES, Open,
};
use crate::wire::handshake::answer;

/// How long a peer may take to introduce itself.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Consumers' processes at a time; more are turned away.
const MAX_CONNECTIONS: usize = 4096;
/// Waits when the process has no file descriptor left for another connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Serves consumers until it is aborted.
pub(crate) async fn accept(listener: TcpListener, registry: Arc<Registry>, token: Arc<str>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < MAX_CONNECTIONS => {
                    let (registry, token) = (registry.clone(), token.clone());
                    connections.spawn(async move {
                        match serve(stream, registry, &token).await {
                            Ok(()) => debug!(%peer, "consumer closed its connection"),
                            Err(error) => debug!(%peer, %error, "connection to consumer lost"),
                        }
                    });
                }
                Ok((_, peer)) => warn!(%peer, limit = MAX_CONNECTIONS, "too many connections, one turned away"),
                Err(error) => {
                    warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, registry: Arc<Registry>, token: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let answered = tokio::time::timeout(HANDSHAKE_TIMEOUT, answer(&mut stream, token)).await;
    answered
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        .map_err(io::Error::other)?;
    let (reader, writer) = stream.into_split();
    let connection = Connection {
        ready: Arc::default(),
        channels: Mutex::default(),
        refused: Mutex::default(),
    };
    tokio::select! {
        read = connection.read(reader, &registry) => read,
        written = connection.write(writer) => written,
    }
}

#[derive(Debug, Clone)]
struct Channel {
    subpartition: Arc<Subpartition>,
    slot: Arc<ReadySlot>,
}

/// One consumer process. Dropped, it tells the producers that their consumers are gone.
#[derive(Debug)]
struct Connection {
    ready: Arc<ReadyList>,
    channels: Mutex<HashMap<u32, Channel>>,
    /// Channels that were not opened, and why; at most one entry an OPEN.
    refused: Mutex<Vec<(u32, Failed)>>,
}

impl Connection {
    async fn read(&self, reader: OwnedReadHalf, registry: &Arc<Registry>) -> io::Result<()> {
        let mut reader = BufReader::new(reader);
        while let Some(header) = read_header(&mut reader).await? {
            match header.kind {
                FrameKind::Open => {
                    let mut open = [0; OPEN_BYTES];
                    reader.read_exact(&mut open).await?;
                    self.open(header.channel, Open::decode(&open), registry)?;
                }
                FrameKind::Credit => {
                    let mut credit = [0; CREDIT_BYTES];
                    reader.read_exact(&mut credit).await?;
                    if let Some(channel) = self.channel(header.channel) {
                        let bytes = i64::try_from(Fields(&credit).u64()).unwrap_or(i64::MAX);
                        channel.subpartition.return_credit(bytes);
                    }
                }
                FrameKind::Close => {
                    let channel = lock(&self.channels).remove(&header.channel);
                    if let Some(channel) = channel {
                        channel.subpartition.detach("its task ended or was canceled");
                        channel.slot.notify(); // the writer forgets what it holds of it
                    }
                }
                kind @ (FrameKind::Data | FrameKind::Failed) => {
                    return Err(io::Error::other(FrameError::Unexpected {
                        kind,
                        channel: header.channel,
                    }));
                }
            }
        }
        Ok(())
    }

    fn open(&self, number: u32, open: Open, registry: &Arc<Registry>) -> io::Result<()> {
        if self.channel(number).is_some() {
            let error = FrameError::Unexpected {
                kind: FrameKind::Open,
                channel: number,
            };
            return Err(io::Error::other(error));
        }
        let slot = ReadySlot::new(self.ready.clone(), number);
        let consumer = Consumer {
            slot: slot.clone(),
            remote: true,
        };
        let window = usize::try_from(open.window).unwrap_or(usize::MAX);
        match registry.attach(open.channel, consumer, window, open.wait) {
            Ok(subpartition) => {
                lock(&self.channels).insert(
                    number,
                    Channel {
                        subpartition,
                        slot: slot.clone(),
                    },
                );
                slot.notify(); // what was said before the writer could find it
            }
            Err(error) => {
                let failed = match error {
                    ExchangeError::PartitionTaken { .. } => Failed::Taken,
                    other => Failed::Other(other.to_string()),
                };
                lock(&self.refused).push((number, failed));
                self.ready.wake();
            }
        }
        Ok(())
    }

    fn channel(&self, number: u32) -> Option<Channel> {
        lock(&self.channels).get(&number).cloned()
    }

    async fn write(&self, mut writer: OwnedWriteHalf) -> io::Result<()> {
        let mut feed = Feed::default();
        let mut pieces: Vec<Buffer> = Vec::new();
        loop {
            self.wait(&feed.multiplexer).await;
            for (number, failed) in std::mem::take(&mut *lock(&self.refused)) {
                push_failed(number, &failed, &mut pieces);
            }
            // All that became ready, before a frame is chosen: there may be a barrier among it.
            while let Some(number) = self.ready.pop() {
                self.visit(number, &mut feed, &mut pieces);
            }
            let mut budget = MAX_FRAME_BYTES;
            while budget > 0 {
                let Some((length, complete)) = feed.multiplexer.next_frame(budget, &mut pieces) else {
                    break;
                };
                budget -= length;
                if let Some(number) = complete {
                    self.visit(number, &mut feed, &mut pieces);
                }
            }
            write_all(&mut writer, &pieces).await?;
            pieces.clear();
        }
    }

    /// Until there is something to write.
    async fn wait(&self, multiplexer: &Multiplexer) {
        poll_fn(|cx| {
            let something =
                || !multiplexer.is_empty() || !self.ready.is_empty() || !lock(&self.refused).is_empty();
            if something() {
                return Poll::Ready(());
            }
            self.ready.register(cx.waker());
            if something() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Looks at a subpartition: takes its next element, unless one is in progress, or sees that it has failed.
    fn visit(&self, number: u32, feed: &mut Feed, pieces: &mut Vec<Buffer>) {
        let Some(channel) = self.channel(number) else {
            feed.forget(number);
            return;
        };
        channel.slot.clear();
        let failed = match channel.subpartition.gone() {
            Some(ProducerGone::Missing) => Some(Failed::NotFound),
            Some(ProducerGone::Released) => Some(Failed::Released),
            None => match feed.take(number, &channel.subpartition) {
                Ok(()) => None,
                Err(error) => {
                    channel.subpartition.detach(&error);
                    Some(Failed::Other(error))
                }
            },
        };
        if let Some(failed) = failed {
            lock(&self.channels).remove(&number);
            feed.forget(number);
            push_failed(number, &failed, pieces);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for channel in lock(&self.channels).values() {
            channel
                .subpartition
                .detach("the connection to its process is lost");
        }
    }
}

fn push_failed(number: u32, failed: &Failed, pieces: &mut Vec<Buffer>) {
    let body = failed.encode();
    let header = FrameHeader::new(FrameKind::Failed, number, body.len());
    pieces.push(Buffer::from(&header.encode()[..]));
    pieces.push(Buffer::from_vec(body));
}

/// The writer's own state.
#[derive(Debug, Default)]
struct Feed {
    multiplexer: Multiplexer,
    /// For what was sent before the producer knew that its consumer is remote.
    encoders: HashMap<u32, Encoder>,
    run: Vec<Outbound>,
}

impl Feed {
    /// Moves the next element into the multiplexer. What is behind it is looked for when it is written.
    fn take(&mut self, number: u32, subpartition: &Subpartition) -> Result<(), String> {
        if self.multiplexer.holds(number) {
            return Ok(());
        }
        subpartition.pop_run(MergeLimit::NONE, &mut self.run);
        let Some(outbound) = self.run.pop() else {
            return Ok(());
        };
        let cost = outbound.cost();
        let encoded = match outbound {
            Outbound::Encoded(encoded) => encoded,
            Outbound::Element { element, .. } => {
                let encoder = self.encoders.entry(number).or_default();
                encoder
                    .encode(&element)
                    .map_err(|error| format!("an element can't be encoded: {error}"))?
            }
        };
        correct_credit(subpartition, cost, &encoded);
        self.multiplexer.push(number, encoded);
        Ok(())
    }

    fn forget(&mut self, number: u32) {
        self.multiplexer.forget(number);
        self.encoders.remove(&number);
    }
}

/// The consumer gives back what it received; an element encoded here has cost the producer another sum.
fn correct_credit(subpartition: &Subpartition, cost: usize, encoded: &EncodedElement) {
    let difference = cost as i64 - encoded.cost() as i64;
    if difference != 0 {
        subpartition.return_credit(difference);
    }
}
