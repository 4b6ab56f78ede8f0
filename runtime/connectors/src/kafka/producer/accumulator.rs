//! Batches that rows are gathered in, one open batch a partition, and the bytes that all of them may hold.
//!
//! ```text
//!   append(partition, row) -> open batch -- full --> closed batches --take--> sender
//!                                        -- linger is over, a flush, a request goes there anyway --take--> sender
//! ```
//!
//! Invariants: a partition's batches are taken in the order of their rows; `used` counts each batch from its first row until
//! [`Accumulator::release`], so also what is on its way; at least one row is taken when nothing is held, whatever the limit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::compression::{Compression, CompressionError};
use super::record_batch::{HEADER_BYTES, Lengths, OpenBatch, RECORD_OVERHEAD, RecordBatch};

/// What batches may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of a batch before it is closed (`batch.size`).
    pub(crate) batch_bytes: usize,
    /// Bytes of a record at most, with a batch's header (`max.request.size`).
    pub(crate) record_bytes: usize,
    /// Bytes of all batches together (`buffer.memory`).
    pub(crate) total_bytes: usize,
    /// How long a batch waits for more rows (`linger.ms`).
    pub(crate) linger: Duration,
    pub(crate) compression: Compression,
}

/// Why a row was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The limit of all batches is reached.
    Full,
    /// This row alone is larger than a request may be.
    TooLarge(Lengths),
    /// Its batch could not be compressed.
    Compression(CompressionError),
}

/// A batch with what it counts for.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) batch: RecordBatch,
    /// When its first row came.
    pub(crate) created: Instant,
    /// Bytes to be released once it is acknowledged.
    pub(crate) held: usize,
}

#[derive(Debug)]
struct Open {
    batch: OpenBatch,
    created: Instant,
}

#[derive(Debug, Default)]
struct Partition {
    open: Option<Open>,
    closed: VecDeque<Closed>,
    /// Bytes of the last batch: room for the next one.
    usual: usize,
}

/// All batches of a writer that are not acknowledged.
#[derive(Debug)]
pub(crate) struct Accumulator {
    limits: Limits,
    partitions: Vec<Partition>,
    used: usize,
}

impl Accumulator {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            partitions: Vec::new(),
            used: 0,
        }
    }

    /// There are so many partitions; never fewer than before.
    pub(crate) fn grow(&mut self, partitions: usize) {
        if partitions > self.partitions.len() {
            self.partitions.resize_with(partitions, Partition::default);
        }
    }

    pub(crate) fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Bytes that are not acknowledged.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Whether less than this part (in quarters) of the limit is held.
    pub(crate) fn has_room(&self, quarters: usize) -> bool {
        self.used < self.limits.total_bytes.div_ceil(4) * quarters
    }

    /// Takes a row, with its headers as they are encoded, its time and when it came; whether a batch got full by it.
    pub(crate) fn append(
        &mut self,
        partition: u32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[u8],
        (timestamp_ms, now): (i64, Instant),
    ) -> Result<bool, Refusal> {
        let lengths = (key.map_or(0, <[u8]>::len), value.map_or(0, <[u8]>::len));
        let most = lengths.0 + lengths.1 + headers.len() + RECORD_OVERHEAD;
        if most + HEADER_BYTES > self.limits.record_bytes {
            return Err(Refusal::TooLarge(lengths));
        }
        if self.used > 0 && self.used + most + HEADER_BYTES > self.limits.total_bytes {
            return Err(Refusal::Full);
        }
        let limit = self.limits.batch_bytes;
        let compression = self.limits.compression;
        let slot = &mut self.partitions[partition as usize];
        let mut closed = false;
        if slot
            .open
            .as_ref()
            .is_some_and(|open| open.batch.len() + most > limit)
        {
            slot.close(compression, &mut self.used)
                .map_err(Refusal::Compression)?;
            closed = true;
        }
        let usual = slot.usual;
        let open = slot.open.get_or_insert_with(|| {
            self.used += HEADER_BYTES;
            Open {
                batch: OpenBatch::with_capacity((usual + usual / 4).min(limit)),
                created: now,
            }
        });
        let before = open.batch.len();
        open.batch.append(key, value, headers, timestamp_ms);
        self.used += open.batch.len() - before;
        Ok(closed)
    }

    /// Whether a partition has a batch that shouldn't wait any longer.
    pub(crate) fn is_due(&self, partition: usize, now: Instant, flushing: bool) -> bool {
        self.due_at(partition, now, flushing) == Some(now)
    }

    /// When a partition's first batch is due; `now` if it is already.
    pub(crate) fn due_at(&self, partition: usize, now: Instant, flushing: bool) -> Option<Instant> {
        self.partitions[partition].due_at(self.limits.linger, now, flushing)
    }

    /// The first batch of a partition, due or not, if it has no more than `limit` bytes.
    pub(crate) fn take(
        &mut self,
        partition: usize,
        limit: usize,
    ) -> Result<Option<Closed>, CompressionError> {
        let slot = &mut self.partitions[partition];
        if slot.closed.is_empty() {
            slot.close(self.limits.compression, &mut self.used)?;
        }
        if slot
            .closed
            .front()
            .is_some_and(|closed| closed.batch.len() <= limit)
        {
            return Ok(slot.closed.pop_front());
        }
        Ok(None)
    }

    /// When the oldest row came that was not taken.
    pub(crate) fn oldest(&self) -> Option<(usize, Instant)> {
        let first = |slot: &Partition| {
            let closed = slot.closed.front().map(|closed| closed.created);
            closed.or(slot.open.as_ref().map(|open| open.created))
        };
        let all = self.partitions.iter().enumerate();
        all.filter_map(|(index, slot)| Some((index, first(slot)?)))
            .min_by_key(|(_, created)| *created)
    }

    /// A batch is acknowledged.
    pub(crate) fn release(&mut self, held: usize) {
        self.used -= held;
    }
}

impl Partition {
    fn close(&mut self, compression: Compression, used: &mut usize) -> Result<(), CompressionError> {
        if let Some(open) = self.open.take() {
            let raw = open.batch.len();
            let batch = open.batch.close(compression)?;
            let held = batch.len();
            *used = *used - raw + held;
            self.usual = raw;
            self.closed.push_back(Closed {
                batch,
                created: open.created,
                held,
            });
        }
        Ok(())
    }

    fn due_at(&self, linger: Duration, now: Instant, flushing: bool) -> Option<Instant> {
        if !self.closed.is_empty() {
            return Some(now);
        }
        let created = self.open.as_ref()?.created;
        Some(if flushing {
            now
        } else {
            (created + linger).max(now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record_batch::NO_HEADERS;
    use super::*;

    fn accumulator(batch_bytes: usize, total_bytes: usize) -> Accumulator {
        let mut accumulator = Accumulator::new(Limits {
            batch_bytes,
            record_bytes: 1_000,
            total_bytes,
            linger: Duration::from_millis(5),
            compression: Compression::None,
        });
        accumulator.grow(2);
        accumulator
    }

    fn append(
        accumulator: &mut Accumulator,
        partition: u32,
        bytes: usize,
        now: Instant,
    ) -> Result<bool, Refusal> {
        accumulator.append(partition, None, Some(&vec![b'x'; bytes]), NO_HEADERS, (0, now))
    }

    fn take(accumulator: &mut Accumulator, partition: usize) -> Option<Closed> {
        accumulator.take(partition, usize::MAX).unwrap()
    }

    #[test]
    fn a_batch_is_due_when_it_is_full_or_its_linger_is_over_or_at_a_flush() {
        let start = Instant::now();
        let mut batches = accumulator(300, 10_000);
        append(&mut batches, 0, 100, start).unwrap();
        append(&mut batches, 1, 100, start + Duration::from_millis(2)).unwrap();
        assert!(!batches.is_due(0, start, false));
        assert!(batches.is_due(0, start, true));
        assert!(batches.is_due(0, start + Duration::from_millis(5), false));
        assert!(!batches.is_due(1, start + Duration::from_millis(5), false));
        assert_eq!(
            batches.due_at(0, start, false),
            Some(start + Duration::from_millis(5))
        );
        assert!(append(&mut batches, 0, 150, start).unwrap());
        assert!(batches.is_due(0, start, false));
        assert_eq!(take(&mut batches, 0).unwrap().batch.records(), 1);
    }

    #[test]
    fn bytes_count_until_they_are_released_and_the_limit_is_kept() {
        let now = Instant::now();
        let mut batches = accumulator(300, 1_000);
        let mut rows = 0;
        while append(&mut batches, rows % 2, 100, now).is_ok() {
            rows += 1;
        }
        assert!((5..10).contains(&rows), "{rows}");
        assert!(batches.used() <= 1_000 && !batches.has_room(3));
        let mut taken = 0;
        for partition in 0..2 {
            while let Some(closed) = take(&mut batches, partition) {
                assert_eq!(closed.held, closed.batch.len());
                taken += closed.batch.records();
                batches.release(closed.held);
            }
        }
        assert_eq!((taken, batches.used()), (rows as i32, 0));
    }

    #[test]
    fn a_row_larger_than_a_request_is_refused_and_one_larger_than_the_buffer_is_taken_alone() {
        let now = Instant::now();
        let mut batches = accumulator(300, 500);
        assert!(matches!(
            append(&mut batches, 0, 1_000, now),
            Err(Refusal::TooLarge((0, 1_000)))
        ));
        append(&mut batches, 0, 800, now).unwrap();
        assert!(matches!(append(&mut batches, 1, 1, now), Err(Refusal::Full)));
        assert!(batches.take(0, 500).unwrap().is_none());
        assert_eq!(take(&mut batches, 0).unwrap().batch.last(), (0, 800));
    }
}
