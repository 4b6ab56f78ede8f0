//! Compression of a batch's records, in the framings that Kafka's clients and brokers read.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

/// Bytes of a block of snappy's framing; what the Java client writes.
const SNAPPY_BLOCK: usize = 32 << 10;
/// The framing of xerial's snappy-java: its mark, its version and the oldest version that reads it.
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// Flink's and the Java client's `compression.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// A batch could not be compressed.
#[derive(Debug, thiserror::Error)]
#[error("{kind:?} could not compress a batch: {reason}")]
pub(crate) struct CompressionError {
    kind: Compression,
    reason: io::Error,
}

impl Compression {
    pub(crate) const NAMES: &'static str = "none, gzip, snappy, lz4, zstd";

    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// The bits in a batch's attributes.
    pub(crate) fn attribute(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Appends the compressed records.
    pub(crate) fn compress(self, records: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        let done = match self {
            Self::None => {
                out.extend_from_slice(records);
                Ok(())
            }
            Self::Gzip => gzip(records, out),
            Self::Snappy => snappy(records, out),
            Self::Lz4 => lz4(records, out),
            Self::Zstd => zstd::stream::copy_encode(records, &mut *out, zstd::DEFAULT_COMPRESSION_LEVEL),
        };
        done.map_err(|reason| CompressionError { kind: self, reason })
    }
}

fn gzip(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = GzEncoder::new(out, flate2::Compression::default());
    encoder.write_all(records)?;
    encoder.finish().map(drop)
}

fn lz4(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let frame = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, out);
    encoder.write_all(records)?;
    encoder.finish().map(drop).map_err(io::Error::other)
}

fn snappy(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&SNAPPY_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(SNAPPY_BLOCK) {
        let start = out.len() + 4;
        out.resize(start + snap::raw::max_compress_len(block.len()), 0);
        let length = encoder
            .compress(block, &mut out[start..])
            .map_err(io::Error::other)?;
        out.truncate(start + length);
        out[start - 4..start].copy_from_slice(&(length as u32).to_be_bytes());
    }
    Ok(())
}
