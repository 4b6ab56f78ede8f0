//! The format of state files: blocks of Arrow columns with an index behind them.
//!
//! ```text
//!   header   "THALSTAT" | version u32 | crc32c of both u32                                        16 bytes
//!   blocks   each: Arrow IPC messages (dictionaries, one record batch), LZ4 or not; rows of one table and of
//!            neighbouring key groups, about 1 MiB
//!   footer   protobuf: tables (schema, rows, rows a key group), blocks (place, key groups, crc32c)
//!   trailer  length of the footer u32 | crc32c of footer and length u32 | version u32 | "THALSTAT"  20 bytes
//! ```
//!
//! All numbers are little-endian. A block's columns are `[$change] key.. sub-key.. value..`: the key's hash and group follow
//! from the key, and `$change` is left out where all rows are upserts. A run's rows are sorted by (key group, key, DeleteKey first,
//! sub-key), in Arrow's row order. A file is read from its end: one range for trailer and footer, then only the blocks
//! whose key groups are wanted.
//!
//! Invariants: every byte is under a checksum that is verified before the byte is used; every error names the file; a file
//! is never changed. The version grows when older readers would read wrongly; `samples/` holds a file of each version.

pub(crate) mod block;
pub(crate) mod builder;
pub(crate) mod footer;
pub(crate) mod reader;
pub(crate) mod source;

use crate::StateError;

/// First and last bytes of a file.
pub(crate) const MAGIC: &[u8; 8] = b"THALSTAT";
/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const TRAILER_BYTES: usize = 20;

/// Size that blocks are cut at, before compression.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;

pub(crate) fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(crate) fn check_header(file: &str, header: &[u8]) -> Result<(), StateError> {
    let damaged = || damaged(file, "its header is not that of a state file");
    let (content, crc) = header.split_at_checked(12).ok_or_else(damaged)?;
    if &content[..8] != MAGIC || crc != crc32c::crc32c(content).to_le_bytes() {
        return Err(damaged());
    }
    Ok(())
}

pub(crate) fn damaged(file: &str, message: impl Into<String>) -> StateError {
    StateError::Damaged {
        file: file.to_owned(),
        message: message.into(),
    }
}
