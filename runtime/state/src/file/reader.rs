//! Opens state files and reads the blocks of a range of key groups.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use thalweg_types::KeyGroupRange;

use super::block::BlockCodec;
use super::footer::{BlockEntry, Footer};
use super::source::{Ranges, Source};
use super::{HEADER_BYTES, TRAILER_BYTES, check_header, damaged};
use crate::{StateError, TableDescriptor};

/// What is read from a file's end at first: trailer and, of nearly all files, the whole footer.
const TAIL_BYTES: u64 = 32 << 10;

/// An open file: its index, and where its blocks are.
#[derive(Clone)]
pub(crate) struct StateFileReader {
    source: Source,
    footer: Arc<Footer>,
    tables: Arc<[Arc<TableDescriptor>]>,
}

impl StateFileReader {
    /// Reads and checks the index.
    pub(crate) async fn open(source: Source) -> Result<Self, StateError> {
        let size = source.size();
        let mut from = size.saturating_sub(TAIL_BYTES);
        let mut tail = source.read(from..size).await?;
        if (tail.len() as u64) < size - from {
            return Err(damaged(
                source.name(),
                format!("it has {} bytes, {size} were written", from + tail.len() as u64),
            ));
        }
        let length = Footer::length_in(source.name(), &tail)?;
        if length as u64 > size {
            return Err(damaged(source.name(), "it is cut off"));
        }
        if length > tail.len() {
            from = size - length as u64;
            tail = source.read(from..size).await?;
        }
        if from == 0 {
            check_header(source.name(), tail.get(..HEADER_BYTES).unwrap_or_default())?;
        }
        let footer = Footer::decode(source.name(), &tail[tail.len().saturating_sub(length)..], size)?;
        let tables = footer
            .tables
            .iter()
            .map(|table| table.descriptor(source.name()).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        // Small files are here already.
        let source = match (from, source) {
            (0, Source::Stored { name, .. }) => Source::Memory { name, content: tail },
            (_, source) => source,
        };
        Ok(Self {
            source,
            footer: Arc::new(footer),
            tables: tables.into(),
        })
    }

    /// For errors.
    pub(crate) fn name(&self) -> &str {
        self.source.name()
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(crate) fn tables(&self) -> &[Arc<TableDescriptor>] {
        &self.tables
    }

    pub(crate) fn table_of(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.name == name)
    }

    /// The blocks of a table that may hold rows of these key groups, in order. Nothing is read before it is asked for;
    /// up to two reads of `read_bytes` are held.
    pub(crate) fn blocks(
        &self,
        table: usize,
        key_groups: KeyGroupRange,
        read_bytes: usize,
    ) -> Result<BlockReader, StateError> {
        let wanted = |block: &&BlockEntry| {
            block.table as usize == table
                && block.first_group <= key_groups.end
                && key_groups.start <= block.last_group
        };
        let entries: VecDeque<BlockEntry> = self.footer.blocks.iter().filter(wanted).cloned().collect();
        Ok(BlockReader {
            codec: BlockCodec::new(&self.tables[table])?,
            reads: Reads::Planned(plan_reads(&entries, read_bytes)),
            source: self.source.clone(),
            entries,
            bytes: Bytes::new(),
            at: 0,
        })
    }

    /// The items `first .. first + count` of a table without keys.
    pub(crate) fn items(&self, table: usize, first: u64, count: u64) -> Result<ItemReader, StateError> {
        let all = KeyGroupRange {
            start: 0,
            end: u32::MAX,
        };
        let mut blocks = self.blocks(table, all, TAIL_BYTES as usize)?;
        let mut skipped = 0;
        while let Some(entry) = blocks.entries.front()
            && skipped + u64::from(entry.rows) <= first
        {
            skipped += u64::from(entry.rows);
            blocks.entries.pop_front();
        }
        blocks.reads = Reads::Planned(plan_reads(&blocks.entries, 4 << 20));
        Ok(ItemReader {
            blocks,
            skip: first - skipped,
            left: count,
        })
    }
}

/// Ranges that hold the blocks: neighbours are read together up to `read_bytes`. The file's header is read with its first block.
fn plan_reads(entries: &VecDeque<BlockEntry>, read_bytes: usize) -> Vec<Range<u64>> {
    let mut reads: Vec<Range<u64>> = Vec::new();
    for entry in entries {
        let end = entry.offset + u64::from(entry.length);
        match reads.last_mut() {
            Some(last) if last.end == entry.offset && end - last.start <= read_bytes as u64 => last.end = end,
            _ => {
                let start = match entry.offset {
                    offset if offset == HEADER_BYTES as u64 => 0,
                    offset => offset,
                };
                reads.push(start..end);
            }
        }
    }
    reads
}

/// Reads blocks of one table one after the other. Blocks the thread.
pub(crate) struct BlockReader {
    source: Source,
    codec: BlockCodec,
    entries: VecDeque<BlockEntry>,
    reads: Reads,
    bytes: Bytes,
    /// Where `bytes` begins in the file.
    at: u64,
}

enum Reads {
    Planned(Vec<Range<u64>>),
    Running {
        starts: std::vec::IntoIter<u64>,
        ranges: Ranges,
    },
}

impl BlockReader {
    /// The next block, and whether it has the column `$change` in front.
    pub(crate) fn next(&mut self) -> Option<Result<(RecordBatch, bool), StateError>> {
        let entry = self.entries.pop_front()?;
        Some(
            self.stored_bytes(&entry)
                .and_then(|stored| self.codec.decode(self.source.name(), &entry, stored))
                .map(|batch| (batch, entry.changes)),
        )
    }

    fn stored_bytes(&mut self, entry: &BlockEntry) -> Result<Bytes, StateError> {
        while entry.offset >= self.at + self.bytes.len() as u64 {
            self.read_more()?;
        }
        let from = entry.offset.checked_sub(self.at).ok_or_else(|| {
            damaged(
                self.source.name(),
                format!("it ends before byte {}", entry.offset),
            )
        })? as usize;
        let to = (from + entry.length as usize).min(self.bytes.len());
        Ok(self.bytes.slice(from..to))
    }

    fn read_more(&mut self) -> Result<(), StateError> {
        if let Reads::Planned(planned) = &mut self.reads {
            let planned = std::mem::take(planned);
            let starts: Vec<u64> = planned.iter().map(|range| range.start).collect();
            self.reads = Reads::Running {
                starts: starts.into_iter(),
                ranges: self.source.read_all(planned),
            };
        }
        let Reads::Running { starts, ranges } = &mut self.reads else {
            return Ok(());
        };
        let (Some(start), Some(bytes)) = (starts.next(), ranges.next()) else {
            return Err(StateError::Storage {
                file: self.source.name().to_owned(),
                message: "reading it was ended".to_owned(),
                retryable: true,
            });
        };
        self.bytes = bytes?;
        self.at = start;
        if self.bytes.is_empty() {
            return Err(damaged(
                self.source.name(),
                format!("it ends before byte {start}"),
            ));
        }
        if start == 0 {
            check_header(
                self.source.name(),
                self.bytes.get(..HEADER_BYTES).unwrap_or_default(),
            )?;
        }
        Ok(())
    }
}

/// Reads a part of the items of a list.
pub(crate) struct ItemReader {
    blocks: BlockReader,
    skip: u64,
    left: u64,
}

impl Iterator for ItemReader {
    type Item = Result<RecordBatch, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let batch = match self.blocks.next()? {
            Ok((batch, _changes)) => batch,
            Err(error) => return Some(Err(error)),
        };
        let skip = (self.skip as usize).min(batch.num_rows());
        self.skip -= skip as u64;
        let take = (self.left as usize).min(batch.num_rows() - skip);
        self.left -= take as u64;
        Some(Ok(batch.slice(skip, take)))
    }
}

/// Smallest possible file.
const _: () = assert!(HEADER_BYTES + TRAILER_BYTES < TAIL_BYTES as usize);
