//! The two ends of a channel as tasks see them; which transport is behind an end shows nowhere else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use thalweg_types::{ExecutionId, StreamElement};

use crate::error::ExchangeError;
use crate::local::{Outbound, ProducerGone, Subpartition};
use crate::queue::{Measured, MergeLimit};
use crate::registry::Registry;
use crate::wire::client::RemoteReader;
use crate::wire::codec::{EncodeError, Encoder};

/// One channel: a subpartition of what one execution writes to one edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// Who writes.
    pub producer: ExecutionId,
    /// The JobEdge's id.
    pub edge: u32,
    /// 0-based: the consumer's place among the producer's consumers on that edge.
    pub subpartition: u32,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "channel {}/edge {}/subpartition {}",
            self.producer, self.edge, self.subpartition
        )
    }
}

/// What went through one end of a channel.
#[derive(Debug, Default)]
pub struct ChannelCounters {
    /// Bytes: of the encoded element if remote, of the rows in memory if local.
    pub bytes: AtomicU64,
    /// Batches. Flink's numBuffers.
    pub batches: AtomicU64,
    /// Rows. Flink's numRecords.
    pub records: AtomicU64,
}

impl ChannelCounters {
    fn count(&self, element: &StreamElement) {
        if let StreamElement::Batch(batch) = element {
            self.batches.fetch_add(1, Ordering::Relaxed);
            self.records.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        }
    }

    fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The producer's end. Dropped before the end of input it fails the consumer.
#[derive(Debug)]
pub struct ChannelWriter {
    subpartition: Arc<Subpartition>,
    registry: Arc<Registry>,
    encoder: Encoder,
    counters: Arc<ChannelCounters>,
}

impl ChannelWriter {
    pub(crate) fn new(subpartition: Arc<Subpartition>, registry: Arc<Registry>) -> Self {
        Self {
            subpartition,
            registry,
            encoder: Encoder::default(),
            counters: Arc::default(),
        }
    }

    /// Which channel.
    pub fn id(&self) -> ChannelId {
        self.subpartition.id
    }

    /// Ready when there is credit for an element; pending also before the consumer came.
    ///
    /// # Errors
    /// [`ExchangeError::ConsumerLost`] when nobody will read what is sent.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        self.subpartition.poll_ready(cx)
    }

    /// [`Self::poll_ready`] without registering for a wake-up; `None` = no credit.
    pub fn ready(&self) -> Option<Result<(), ExchangeError>> {
        self.subpartition.ready()
    }

    /// Sends an element; it never waits, so batches are sent when [`Self::poll_ready`] says so. Control elements, and
    /// what has to go before a barrier, may overdraw.
    ///
    /// # Errors
    /// The consumer is gone, this execution was released, or the batch can't be encoded.
    pub fn send(&mut self, element: StreamElement) -> Result<(), ExchangeError> {
        self.subpartition.writable()?;
        let end = matches!(element, StreamElement::EndOfInput);
        self.counters.count(&element);
        let outbound = if self.subpartition.is_remote() {
            let channel = self.subpartition.id;
            let encoded = self
                .encoder
                .encode(&element)
                .map_err(|error| encode_error(channel, error))?;
            Outbound::Encoded(encoded)
        } else {
            Outbound::element(element)
        };
        self.counters.count_bytes(outbound.cost());
        self.subpartition.push(outbound, end);
        Ok(())
    }

    /// Bytes sent so far.
    pub fn bytes_out(&self) -> u64 {
        self.counters.bytes.load(Ordering::Relaxed)
    }

    /// What was sent, to be read from any thread.
    pub fn counters(&self) -> Arc<ChannelCounters> {
        self.counters.clone()
    }
}

impl Drop for ChannelWriter {
    fn drop(&mut self) {
        self.registry.retire(&self.subpartition);
    }
}

fn encode_error(channel: ChannelId, error: EncodeError) -> ExchangeError {
    match error {
        EncodeError::Arrow(source) => ExchangeError::Encode {
            channel,
            source: Arc::new(source),
        },
        EncodeError::TooLarge { bytes, limit } => ExchangeError::ElementTooLarge {
            channel,
            bytes,
            limit,
        },
    }
}

/// The consumer's end, inside a gate.
#[derive(Debug)]
pub(crate) enum ChannelReader {
    Local(LocalReader),
    Remote(Box<RemoteReader>),
}

impl ChannelReader {
    /// Appends what comes next to `out`: one element, or several small batches. Says whether something is left.
    pub(crate) fn take(
        &mut self,
        limit: MergeLimit,
        out: &mut Vec<StreamElement>,
    ) -> Result<bool, ExchangeError> {
        match self {
            Self::Local(reader) => reader.take(limit, out),
            Self::Remote(reader) => reader.take(limit, out),
        }
    }

    /// The barriers that lie there, in order.
    pub(crate) fn peek_barriers(&self) -> Result<Vec<StreamElement>, ExchangeError> {
        match self {
            Self::Local(reader) => {
                let barriers = reader.subpartition.peek_barriers();
                Ok(barriers.into_iter().filter_map(Outbound::into_element).collect())
            }
            Self::Remote(reader) => reader.peek_barriers(),
        }
    }

    /// Copies of what lies there up to this checkpoint's barrier, which is the last of them; `None` if that isn't there.
    pub(crate) fn peek_to_barrier(
        &self,
        checkpoint_id: u64,
    ) -> Result<Option<Vec<StreamElement>>, ExchangeError> {
        match self {
            Self::Local(reader) => {
                let queued = reader.subpartition.peek_to_barrier(checkpoint_id);
                Ok(queued.map(|queued| queued.into_iter().filter_map(Outbound::into_element).collect()))
            }
            Self::Remote(reader) => reader.peek_to_barrier(checkpoint_id),
        }
    }

    /// Copies of what lies there up to the end of the input, which is the last of them; `None` if that isn't there.
    pub(crate) fn peek_to_end(&self) -> Result<Option<Vec<StreamElement>>, ExchangeError> {
        match self {
            Self::Local(reader) => {
                let queued = reader.subpartition.peek_to_end();
                Ok(queued.map(|queued| queued.into_iter().filter_map(Outbound::into_element).collect()))
            }
            Self::Remote(reader) => reader.peek_to_end(),
        }
    }

    /// Lets the producer know that nobody reads on.
    pub(crate) fn close(&mut self) {
        match self {
            Self::Local(reader) => reader.subpartition.detach("its task ended or was canceled"),
            Self::Remote(reader) => reader.close(),
        }
    }

    pub(crate) fn id(&self) -> ChannelId {
        match self {
            Self::Local(reader) => reader.subpartition.id,
            Self::Remote(reader) => reader.id(),
        }
    }

    pub(crate) fn counters(&self) -> &Arc<ChannelCounters> {
        match self {
            Self::Local(reader) => &reader.counters,
            Self::Remote(reader) => reader.counters(),
        }
    }
}

/// Reads a subpartition of the same process.
#[derive(Debug)]
pub(crate) struct LocalReader {
    pub(crate) subpartition: Arc<Subpartition>,
    pub(crate) address: String,
    pub(crate) waited: std::time::Duration,
    pub(crate) run: Vec<Outbound>,
    pub(crate) counters: Arc<ChannelCounters>,
}

impl LocalReader {
    fn take(&mut self, limit: MergeLimit, out: &mut Vec<StreamElement>) -> Result<bool, ExchangeError> {
        let (channel, address) = (self.subpartition.id, &self.address);
        match self.subpartition.gone() {
            None => {}
            Some(ProducerGone::Released) => {
                return Err(ExchangeError::ProducerReleased {
                    channel,
                    address: address.clone(),
                });
            }
            Some(ProducerGone::Missing) => {
                let waited = self.waited;
                return Err(ExchangeError::PartitionNotFound {
                    channel,
                    address: address.clone(),
                    waited,
                });
            }
        }
        let more = self.subpartition.pop_run(limit, &mut self.run);
        let mut taken = 0;
        for outbound in self.run.drain(..) {
            taken += outbound.cost();
            if let Outbound::Element { element, .. } = outbound {
                self.counters.count(&element);
                out.push(element);
            }
        }
        self.counters.count_bytes(taken);
        self.subpartition
            .return_credit(i64::try_from(taken).unwrap_or(i64::MAX));
        Ok(more)
    }
}

/// Counts what a reader handed out.
pub(crate) fn count_received(counters: &ChannelCounters, element: &StreamElement, bytes: usize) {
    counters.count(element);
    counters.count_bytes(bytes);
}
