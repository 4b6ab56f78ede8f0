//! How blocks are compressed.

use std::io::{Read, Write};

use flate2::Crc;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::FormatError;

/// The largest block, before and after it is decompressed.
pub(super) const MOST_BLOCK_BYTES: u64 = 1 << 30;
const ZSTD_LEVEL: i32 = 3;

/// A codec of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "Avro's names")]
pub enum AvroCodec {
    Null,
    Deflate,
    /// Flink's default.
    #[default]
    Snappy,
    Zstandard,
}

impl AvroCodec {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Null, Self::Deflate, Self::Snappy, Self::Zstandard];

    /// As files name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstandard => "zstandard",
        }
    }

    pub(super) fn of(name: &[u8]) -> Result<Self, FormatError> {
        let found = Self::ALL
            .into_iter()
            .find(|codec| codec.name().as_bytes() == name);
        found.ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            FormatError::syntax(format!(
                "its codec {name:?} is not supported: null, deflate, snappy and zstandard are"
            ))
        })
    }

    /// Appends a block compressed.
    pub(super) fn compress(self, block: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        let failed = |error: &dyn std::fmt::Display| {
            FormatError::value(format!("a block can't be compressed: {error}"))
        };
        match self {
            Self::Null => out.extend_from_slice(block),
            Self::Deflate => {
                let mut encoder = DeflateEncoder::new(out, flate2::Compression::default());
                encoder.write_all(block).map_err(|error| failed(&error))?;
                encoder.finish().map_err(|error| failed(&error))?;
            }
            Self::Snappy => {
                let compressed = snap::raw::Encoder::new().compress_vec(block);
                out.extend(compressed.map_err(|error| failed(&error))?);
                out.extend(checksum(block));
            }
            Self::Zstandard => {
                let compressed = zstd::bulk::compress(block, ZSTD_LEVEL);
                out.extend(compressed.map_err(|error| failed(&error))?);
            }
        }
        Ok(())
    }

    /// A block as it was.
    pub(super) fn decompress(self, block: Vec<u8>) -> Result<Vec<u8>, FormatError> {
        let failed = |error: &dyn std::fmt::Display| {
            FormatError::syntax(format!("a block can't be decompressed: {error}"))
        };
        match self {
            Self::Null => Ok(block),
            Self::Deflate => bounded(DeflateDecoder::new(block.as_slice())),
            Self::Snappy => {
                let Some((compressed, sum)) = block.split_last_chunk::<4>() else {
                    return Err(failed(&"it has no checksum"));
                };
                let length = snap::raw::decompress_len(compressed).map_err(|error| failed(&error))?;
                if length as u64 > MOST_BLOCK_BYTES {
                    return Err(too_large());
                }
                let plain = snap::raw::Decoder::new()
                    .decompress_vec(compressed)
                    .map_err(|error| failed(&error))?;
                match checksum(&plain) == *sum {
                    true => Ok(plain),
                    false => Err(failed(&"its checksum is wrong")),
                }
            }
            Self::Zstandard => {
                bounded(zstd::stream::read::Decoder::new(block.as_slice()).map_err(|error| failed(&error))?)
            }
        }
    }
}

/// CRC-32, the highest byte first.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_be_bytes()
}

fn bounded(reader: impl Read) -> Result<Vec<u8>, FormatError> {
    let mut plain = Vec::new();
    let read = reader.take(MOST_BLOCK_BYTES + 1).read_to_end(&mut plain);
    let read =
        read.map_err(|error| FormatError::syntax(format!("a block can't be decompressed: {error}")))?;
    match read as u64 > MOST_BLOCK_BYTES {
        true => Err(too_large()),
        false => Ok(plain),
    }
}

fn too_large() -> FormatError {
    FormatError::syntax("a block is larger than 1 GiB")
}
