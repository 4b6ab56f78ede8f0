//! One copy on disk: the content, and behind it checksums by which each part of it can be read by itself.
//!
//! ```text
//!   content | crc32c u32 of each 64 KiB of it | URI | length of content u64 | length of URI u32 | crc32c u32 of all behind
//!   the content | "THALCOPY"
//! ```
//!
//! All numbers are little-endian. Nothing is synchronised with the disk: what a crash of the machine leaves does not fit its
//! checksums.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::local::StagedFile;

const MAGIC: &[u8; 8] = b"THALCOPY";
/// What one checksum is of.
pub(super) const CHUNK_BYTES: u64 = 64 << 10;
/// Two lengths, the checksum, the magic number.
const TAIL_BYTES: u64 = 8 + 4 + 4 + 8;
/// Longest of checksums and URI that is believed: 64 TiB of content.
const MOST_TABLE_BYTES: u64 = 4 << 30;

/// The checksums of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    length: u64,
    chunks: Vec<u32>,
}

/// A copy being written; gone again unless it is finished.
#[derive(Debug)]
pub(super) struct StagedCopy {
    file: StagedFile,
    uri: String,
    length: u64,
    chunks: Vec<u32>,
    /// Of the chunk that is not full.
    crc: u32,
}

impl StagedCopy {
    pub(super) fn create(target: &Path, uri: &str) -> io::Result<Self> {
        Ok(Self {
            file: StagedFile::create(target)?,
            uri: uri.to_owned(),
            length: 0,
            chunks: Vec::new(),
            crc: 0,
        })
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    pub(super) fn write(&mut self, mut content: &[u8]) -> io::Result<()> {
        self.file.write(content)?;
        while !content.is_empty() {
            let room = CHUNK_BYTES - self.length % CHUNK_BYTES;
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(content.len());
            let (now, later) = content.split_at(take);
            self.crc = crc32c::crc32c_append(self.crc, now);
            self.length += now.len() as u64;
            content = later;
            if self.length.is_multiple_of(CHUNK_BYTES) {
                self.chunks.push(std::mem::take(&mut self.crc));
            }
        }
        Ok(())
    }

    /// Makes it visible; its checksums and its size on disk.
    pub(super) fn finish(mut self) -> io::Result<(Table, u64)> {
        if !self.length.is_multiple_of(CHUNK_BYTES) {
            self.chunks.push(self.crc);
        }
        let table = Table {
            length: self.length,
            chunks: self.chunks,
        };
        let footer = table.encode(&self.uri);
        self.file.write(&footer)?;
        self.file.finish_unsynced()?;
        Ok((table, self.length + footer.len() as u64))
    }
}

impl Table {
    fn encode(&self, uri: &str) -> Vec<u8> {
        let mut footer: Vec<u8> = self.chunks.iter().flat_map(|crc| crc.to_le_bytes()).collect();
        footer.extend(uri.as_bytes());
        footer.extend(self.length.to_le_bytes());
        footer.extend(u32::try_from(uri.len()).unwrap_or(u32::MAX).to_le_bytes());
        footer.extend(crc32c::crc32c(&footer).to_le_bytes());
        footer.extend(MAGIC);
        footer
    }

    /// Reads and checks everything but the content.
    fn read(file: &mut File, uri: &str) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let tail_at = size
            .checked_sub(TAIL_BYTES)
            .ok_or_else(|| damaged("it is cut off"))?;
        let mut tail = [0; TAIL_BYTES as usize];
        file.read_exact_at(&mut tail, tail_at)?;
        let (length, rest) = tail.split_at(8);
        let (uri_length, rest) = rest.split_at(4);
        let (crc, magic) = rest.split_at(4);
        let length = u64::from_le_bytes(array(length));
        let uri_length = u32::from_le_bytes(array(uri_length));
        let count = length.div_ceil(CHUNK_BYTES);
        let table_bytes = count.saturating_mul(4).saturating_add(u64::from(uri_length));
        let fits = length.checked_add(table_bytes) == Some(tail_at) && table_bytes <= MOST_TABLE_BYTES;
        if magic != MAGIC || !fits {
            return Err(damaged("its end is not that of a copy"));
        }
        let mut footer = Vec::new();
        file.seek(SeekFrom::Start(length))?;
        file.take(table_bytes + 12).read_to_end(&mut footer)?;
        if crc32c::crc32c(&footer).to_le_bytes() != *crc {
            return Err(damaged("its list of checksums is damaged"));
        }
        let (chunks, rest) = footer.split_at(footer.len().min((count * 4) as usize));
        if !rest.starts_with(uri.as_bytes()) || uri_length as usize != uri.len() {
            return Err(damaged("it is a copy of another file"));
        }
        let chunks = chunks.chunks_exact(4);
        Ok(Self {
            length,
            chunks: chunks.map(|crc| u32::from_le_bytes(array(crc))).collect(),
        })
    }

    /// The bytes of a range, each chunk that it touches checked.
    fn read_range(&self, file: &File, range: Range<u64>) -> io::Result<Bytes> {
        let end = range.end.min(self.length);
        if range.start >= end {
            return Ok(Bytes::new());
        }
        let first = range.start / CHUNK_BYTES;
        let from = first * CHUNK_BYTES;
        let to = end
            .div_ceil(CHUNK_BYTES)
            .saturating_mul(CHUNK_BYTES)
            .min(self.length);
        let mut content = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
        file.read_exact_at(&mut content, from)?;
        let wanted = self.chunks.iter().skip(first as usize);
        let read = content.chunks(CHUNK_BYTES as usize);
        if let Some(wrong) = read
            .zip(wanted)
            .position(|(chunk, crc)| crc32c::crc32c(chunk) != *crc)
        {
            let at = from + wrong as u64 * CHUNK_BYTES;
            return Err(damaged(&format!("its checksum at byte {at} is wrong")));
        }
        let slice = (range.start - from) as usize..(end - from) as usize;
        Ok(Bytes::from(content).slice(slice))
    }
}

/// A range of a copy and its checksums, which are read if they aren't known yet.
pub(super) fn read_copy(
    path: &Path,
    uri: &str,
    table: Option<Arc<Table>>,
    range: Range<u64>,
) -> io::Result<(Arc<Table>, Bytes)> {
    let mut file = File::open(path)?;
    let table = match table {
        Some(table) => table,
        None => Arc::new(Table::read(&mut file, uri)?),
    };
    let bytes = table.read_range(&file, range)?;
    Ok((table, bytes))
}

fn damaged(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}

/// Of a slice that has just this length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
