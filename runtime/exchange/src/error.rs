//! Why an exchange failed: each error names the producer, the address and the channel that it knows of.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::error::ArrowError;
use thalweg_types::{Classify, FailureClass};

use crate::channel::ChannelId;

/// Why a producer's process would not talk to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeRefusal {
    /// What listens there is no exchange.
    #[error("what listens there is not an exchange")]
    NotAnExchange,
    /// Another version of the wire format.
    #[error("it speaks version {theirs} of the exchange protocol, this process version {ours}")]
    Version {
        /// This process's.
        ours: u16,
        /// The other's.
        theirs: u16,
    },
    /// Another exchange token: another job's process, as when an address was given to someone else.
    #[error("its exchange token is another one: the address belongs to another job by now")]
    Token,
}

/// Why a channel failed. Cheap to clone: one lost connection fails many channels.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExchangeError {
    /// The data port can't be opened.
    #[error("the data port {address} can't be opened")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The producer's process doesn't answer.
    #[error("no connection to {address} within {waited:?} for {channel}")]
    Connect {
        /// The producer's process.
        address: String,
        /// The first channel that was wanted.
        channel: ChannelId,
        /// How long it was tried.
        waited: Duration,
        /// The last attempt's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The producer's process answers, but refuses.
    #[error("{address} was refused for {channel}: {refusal}")]
    Handshake {
        /// The producer's process.
        address: String,
        /// The channel that was wanted.
        channel: ChannelId,
        /// Why.
        refusal: HandshakeRefusal,
    },
    /// The producer never came up in its process. Flink's PartitionNotFoundException.
    #[error("partition not found: {channel} was not deployed at {address} within {waited:?}")]
    PartitionNotFound {
        /// Which.
        channel: ChannelId,
        /// The producer's process.
        address: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A channel has one consumer, and this one has another already.
    #[error("{channel} has a consumer already")]
    PartitionTaken {
        /// Which.
        channel: ChannelId,
    },
    /// The same partition was declared twice.
    #[error("{channel} was declared before")]
    AlreadyDeclared {
        /// Which.
        channel: ChannelId,
    },
    /// The connection to the producer's process broke, or its process died.
    #[error("connection to the producer of {channel} at {address} lost: {cause}")]
    ProducerLost {
        /// Which.
        channel: ChannelId,
        /// The producer's process.
        address: String,
        /// What was seen.
        cause: String,
    },
    /// The producer was canceled or failed before the end of its output.
    #[error("the producer of {channel} at {address} ended before its output did")]
    ProducerReleased {
        /// Which.
        channel: ChannelId,
        /// The producer's process.
        address: String,
    },
    /// The consumer is gone before the end of the output.
    #[error("the consumer of {channel} is gone: {cause}")]
    ConsumerLost {
        /// Which.
        channel: ChannelId,
        /// What was seen.
        cause: String,
    },
    /// This execution was released: nobody reads what it writes.
    #[error("{channel} was released")]
    WriterReleased {
        /// Which.
        channel: ChannelId,
    },
    /// Something was sent behind the end of input.
    #[error("an element was sent on {channel} behind its end of input")]
    WriteAfterEnd {
        /// Which.
        channel: ChannelId,
    },
    /// Not enough network memory for the channels of a gate. Flink's "Insufficient number of network buffers".
    #[error(
        "insufficient network memory: {channels} channels need {required} bytes, {available} of {total} are free; \
         raise taskmanager.memory.network.max or lower the parallelism"
    )]
    Memory {
        /// How many channels the gate has.
        channels: usize,
        /// The least they need.
        required: usize,
        /// What is left.
        available: usize,
        /// All there is.
        total: usize,
    },
    /// A batch can't be encoded.
    #[error("a batch for {channel} can't be encoded")]
    Encode {
        /// Which.
        channel: ChannelId,
        /// What Arrow said.
        #[source]
        source: Arc<ArrowError>,
    },
    /// A batch is too large for one element.
    #[error(
        "a batch for {channel} has {bytes} bytes encoded, at most {limit} are allowed: emit smaller batches"
    )]
    ElementTooLarge {
        /// Which.
        channel: ChannelId,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// What came can't be decoded.
    #[error("an element of {channel} from {address} can't be decoded")]
    Decode {
        /// Which.
        channel: ChannelId,
        /// The producer's process.
        address: String,
        /// What Arrow said.
        #[source]
        source: Arc<ArrowError>,
    },
    /// Rows can't be distributed or coalesced.
    #[error("rows can't be {step}")]
    Rows {
        /// "partitioned", "merged".
        step: &'static str,
        /// What Arrow said.
        #[source]
        source: Arc<ArrowError>,
    },
    /// A keyed exchange got rows without key hashes.
    #[error("a HASH exchange got a batch without key hashes")]
    KeyHashesMissing,
    /// The partitioner doesn't fit the number of channels.
    #[error("{partitioner:?} can't write to {channels} channels{hint}")]
    Channels {
        /// Which.
        partitioner: crate::partition::Partitioner,
        /// How many it was given.
        channels: usize,
        /// What it needs.
        hint: &'static str,
    },
}

impl Classify for ExchangeError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Bind { .. }
            | Self::Connect { .. }
            | Self::PartitionNotFound { .. }
            | Self::ProducerLost { .. }
            | Self::ProducerReleased { .. }
            | Self::ConsumerLost { .. }
            | Self::WriterReleased { .. } => FailureClass::Retryable,
            Self::Handshake { refusal, .. } => match refusal {
                HandshakeRefusal::Version { .. } => FailureClass::Fatal,
                HandshakeRefusal::NotAnExchange | HandshakeRefusal::Token => FailureClass::Retryable,
            },
            Self::Memory { .. } | Self::ElementTooLarge { .. } => FailureClass::Fatal,
            Self::PartitionTaken { .. }
            | Self::AlreadyDeclared { .. }
            | Self::WriteAfterEnd { .. }
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::Rows { .. }
            | Self::KeyHashesMissing
            | Self::Channels { .. } => FailureClass::Bug,
        }
    }
}
