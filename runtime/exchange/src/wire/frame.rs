//! Frames: 16 bytes of header and at most 256 KiB behind it.
//!
//! ```text
//!   0 kind u8 | 1 flags u8 | 2 zero u16 | 4 channel u32 | 8 length u32 | 12 total u32
//! ```
//!
//! `channel` is a number that the consumer gave it when it opened it, never used twice on a connection. `total`: in an
//! element's first DATA frame, the bytes of the whole element.

use std::time::Duration;

use thalweg_types::{ExecutionId, JobId, VertexId};

use crate::channel::ChannelId;

/// Bytes behind a header at most.
pub(crate) const MAX_FRAME_BYTES: usize = 256 << 10;
/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes behind an OPEN header.
pub(crate) const OPEN_BYTES: usize = 60;
/// Bytes behind a CREDIT header.
pub(crate) const CREDIT_BYTES: usize = 8;
/// The first frame of an element.
pub(crate) const FIRST: u8 = 1;
/// The last frame of an element.
pub(crate) const LAST: u8 = 2;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// Consumer: wants a channel.
    Open = 1,
    /// Consumer: took bytes.
    Credit = 2,
    /// Consumer: wants nothing more.
    Close = 3,
    /// Producer: a fragment of an element.
    Data = 16,
    /// Producer: there will be no more on this channel.
    Failed = 17,
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) flags: u8,
    pub(crate) channel: u32,
    pub(crate) length: u32,
    pub(crate) total: u32,
}

/// What came is no frame: the connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("protocol error: unknown frame kind {0}")]
    Kind(u8),
    #[error("protocol error: a {kind:?} frame of {length} bytes")]
    Length { kind: FrameKind, length: u32 },
    #[error("protocol error: unexpected {kind:?} frame on channel number {channel}")]
    Unexpected { kind: FrameKind, channel: u32 },
}

impl FrameHeader {
    /// A header without flags.
    pub(crate) fn new(kind: FrameKind, channel: u32, length: usize) -> Self {
        Self {
            kind,
            flags: 0,
            channel,
            length: length as u32,
            total: 0,
        }
    }

    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1] = self.flags;
        bytes[4..8].copy_from_slice(&self.channel.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..].copy_from_slice(&self.total.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let kind = match bytes[0] {
            1 => FrameKind::Open,
            2 => FrameKind::Credit,
            3 => FrameKind::Close,
            16 => FrameKind::Data,
            17 => FrameKind::Failed,
            other => return Err(FrameError::Kind(other)),
        };
        let mut fields = Fields(&bytes[4..]);
        let (channel, length, total) = (fields.u32(), fields.u32(), fields.u32());
        let allowed = match kind {
            FrameKind::Open => length as usize == OPEN_BYTES,
            FrameKind::Credit => length as usize == CREDIT_BYTES,
            FrameKind::Close => length == 0,
            FrameKind::Data | FrameKind::Failed => length as usize <= MAX_FRAME_BYTES,
        };
        if !allowed {
            return Err(FrameError::Length { kind, length });
        }
        Ok(Self {
            kind,
            flags: bytes[1],
            channel,
            length,
            total,
        })
    }
}

/// Reads fields of fixed size off a buffer that is known to be long enough.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        if let Some((head, tail)) = self.0.split_first_chunk::<N>() {
            field = *head;
            self.0 = tail;
        }
        field
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub(crate) fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.take())
    }
}

/// What a consumer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) channel: ChannelId,
    pub(crate) window: u64,
    /// How long the producer may take to appear.
    pub(crate) wait: Duration,
}

impl Open {
    pub(crate) fn encode(self) -> [u8; OPEN_BYTES] {
        let ExecutionId {
            job,
            vertex,
            subtask,
            attempt,
        } = self.channel.producer;
        let mut bytes = [0; OPEN_BYTES];
        bytes[..16].copy_from_slice(&job.0);
        bytes[16..32].copy_from_slice(&vertex.0);
        let millis = u32::try_from(self.wait.as_millis()).unwrap_or(u32::MAX);
        let numbers = [
            subtask,
            attempt,
            self.channel.edge,
            self.channel.subpartition,
            millis,
        ];
        for (index, number) in numbers.into_iter().enumerate() {
            let at = 32 + 4 * index;
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        bytes[52..].copy_from_slice(&self.window.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; OPEN_BYTES]) -> Self {
        let mut fields = Fields(bytes);
        let (job, vertex) = (JobId(fields.take()), VertexId(fields.take()));
        let producer = ExecutionId {
            job,
            vertex,
            subtask: fields.u32(),
            attempt: fields.u32(),
        };
        let channel = ChannelId {
            producer,
            edge: fields.u32(),
            subpartition: fields.u32(),
        };
        let wait = Duration::from_millis(fields.u32().into());
        Self {
            channel,
            window: fields.u64(),
            wait,
        }
    }
}

/// Why there will be no more on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The producer didn't come in time.
    NotFound,
    /// The producer ended before its output did.
    Released,
    /// There is a consumer already.
    Taken,
    /// Anything else, in words.
    Other(String),
}

impl Failed {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::NotFound => vec![1],
            Self::Released => vec![2],
            Self::Taken => vec![3],
            Self::Other(text) => {
                let text = text.as_bytes();
                [&[0], &text[..text.len().min(MAX_FRAME_BYTES - 1)]].concat()
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        match bytes {
            [1, ..] => Self::NotFound,
            [2, ..] => Self::Released,
            [3, ..] => Self::Taken,
            other => Self::Other(String::from_utf8_lossy(other.get(1..).unwrap_or_default()).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back() {
        let header = FrameHeader {
            kind: FrameKind::Data,
            flags: FIRST,
            channel: 7,
            length: 9,
            total: 1 << 20,
        };
        assert_eq!(FrameHeader::decode(header.encode()), Ok(header));
    }

    #[test]
    fn frames_above_the_limit_are_refused() {
        let header = FrameHeader::new(FrameKind::Data, 7, MAX_FRAME_BYTES + 1);
        let error = FrameHeader::decode(header.encode()).unwrap_err();
        assert_eq!(error.to_string(), "protocol error: a Data frame of 262145 bytes");
    }

    #[test]
    fn an_open_reads_back() {
        let producer = ExecutionId {
            job: JobId::from_u128(1),
            vertex: VertexId::from_u128(2),
            subtask: 3,
            attempt: 4,
        };
        let channel = ChannelId {
            producer,
            edge: 5,
            subpartition: 6,
        };
        let open = Open {
            channel,
            window: 1 << 40,
            wait: Duration::from_secs(30),
        };
        assert_eq!(Open::decode(&open.encode()), open);
    }

    #[test]
    fn failures_read_back() {
        for failed in [
            Failed::NotFound,
            Failed::Released,
            Failed::Taken,
            Failed::Other("no".into()),
        ] {
            assert_eq!(Failed::decode(&failed.encode()), failed);
        }
    }
}
