//! The task's side of a Kafka reader: takes finished batches and knows how far it is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::Int64Array;
use thalweg_types::StreamBatch;

use super::fetcher::{self, FetchTask};
use super::source::SourceSettings;
use super::split::{PartitionOffset, TopicPartition, split_owner};
use super::state::{RestoredSplits, SplitPosition, reader_state};
use crate::queue::{HAND_OVER_BYTES, Receiver, bounded};
use crate::{ConnectorContext, ConnectorError, Gauge, SourceEvent, SourceReader};

/// Checkpoints whose end is waited for; the oldest is forgotten, a later one commits more.
const MAX_CHECKPOINTS: usize = 64;
/// How long the task's end waits for its last offsets to be committed.
const LAST_COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// What the fetching thread hands over.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "moved once a batch; a box would be an allocation a batch"
)]
pub(crate) enum Handed {
    /// Rows, and how far the splits are behind them.
    Batch {
        batch: StreamBatch,
        offsets: Vec<(usize, i64)>,
        /// First row and split of each run of rows of one split, where watermarks are reported by row.
        runs: Vec<(usize, usize)>,
    },
    Idle,
    End,
    Failed(ConnectorError),
}

/// How far the reader is.
#[derive(Debug, Default)]
struct Positions {
    /// In the order in which the splits were added: behind the rows that the task took.
    handed: Vec<SplitPosition>,
    /// Its own of the restored splits, until it has found them at the brokers.
    restored: Vec<SplitPosition>,
    /// What is restored knows of every partition that there was.
    restored_complete: bool,
    discovered: bool,
    /// Of the newest complete checkpoint, until they are committed.
    to_commit: Option<Vec<PartitionOffset>>,
    /// The task, which ends when the fetcher has tried to commit them.
    closing: Option<Waker>,
}

/// What may be committed to the group.
pub(crate) struct ToCommit {
    pub(crate) offsets: Vec<PartitionOffset>,
    /// The task ends behind it: it is to be waited for, and [`ReaderShared::last_commit_done`] to be said.
    pub(crate) last: bool,
}

/// How far watermark alignment lets splits go; without limit at first.
#[derive(Debug)]
pub(crate) struct MaxWatermark(AtomicI64);

impl Default for MaxWatermark {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MAX))
    }
}

impl MaxWatermark {
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What both sides know.
#[derive(Debug, Default)]
pub(crate) struct ReaderShared {
    positions: Mutex<Positions>,
    pub(crate) max_watermark: MaxWatermark,
    /// Splits and the largest watermarks of their rows, as they were reported since they were last taken; a split at most once.
    reported: Mutex<Vec<(usize, i64)>>,
    pub(crate) pending_records: AtomicI64,
    pub(crate) commits_succeeded: AtomicU64,
    pub(crate) commits_failed: AtomicU64,
}

impl ReaderShared {
    fn lock(&self) -> MutexGuard<'_, Positions> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Splits and the watermarks that their rows were reported to have since the last call.
    pub(crate) fn take_reported(&self) -> Vec<(usize, i64)> {
        std::mem::take(&mut *self.reported.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn report(&self, split: usize, watermark: i64) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        match reported.iter_mut().find(|(there, _)| *there == split) {
            Some((_, largest)) => *largest = watermark.max(*largest),
            None => reported.push((split, watermark)),
        }
    }

    /// Adds the next splits at their starts. The first call says which partitions there are at all.
    pub(crate) fn add_splits(&self, starts: Vec<SplitPosition>) {
        let mut positions = self.lock();
        positions.handed.extend(starts);
        positions.discovered = true;
        positions.restored.clear();
    }

    /// The next offset of each split behind the rows that the task took.
    pub(crate) fn handed(&self) -> Vec<PartitionOffset> {
        let handed = |split: &SplitPosition| split.position.clone();
        self.lock().handed.iter().map(handed).collect()
    }

    /// What a complete checkpoint says may be committed, once.
    pub(crate) fn take_to_commit(&self) -> Option<ToCommit> {
        let mut positions = self.lock();
        let last = positions.closing.is_some();
        let offsets = positions.to_commit.take()?;
        Some(ToCommit { offsets, last })
    }

    /// The last commit has come about, or has not: the task may end.
    pub(crate) fn last_commit_done(&self) {
        if let Some(task) = self.lock().closing.take() {
            task.wake();
        }
    }

    /// A batch was taken behind which splits are at `offsets`; `ranges` become what it holds of each.
    fn advance(&self, offsets: &[(usize, i64)], ranges: &mut Vec<(usize, Range<i64>)>) {
        let mut positions = self.lock();
        ranges.clear();
        for (place, offset) in offsets {
            if let Some(split) = positions.handed.get_mut(*place) {
                ranges.push((*place, split.position.offset..*offset));
                split.position.offset = *offset;
            }
        }
    }

    /// "topic words partition 2 offsets 10..4106"
    fn describe(&self, ranges: &[(usize, Range<i64>)]) -> Option<String> {
        let positions = self.lock();
        let describe = |(place, range): &(usize, Range<i64>)| {
            let TopicPartition { topic, partition } = &positions.handed.get(*place)?.position.partition;
            Some(match range.start {
                ..0 => format!(
                    "topic {topic} partition {partition} offsets up to {}",
                    range.end - 1
                ),
                start => format!(
                    "topic {topic} partition {partition} offsets {start}..{}",
                    range.end
                ),
            })
        };
        let described: Vec<String> = ranges.iter().filter_map(describe).collect();
        (!described.is_empty()).then(|| described.join(", "))
    }

    fn state(&self) -> Vec<Vec<u8>> {
        let positions = self.lock();
        match positions.discovered {
            true => reader_state(true, &positions.handed),
            // It goes on where it was to go on; what else there is it doesn't know yet.
            false => reader_state(positions.restored_complete, &positions.restored),
        }
    }
}

/// Reads the partitions of one subtask.
pub struct KafkaSourceReader {
    receiver: Receiver<Handed>,
    shared: Arc<ReaderShared>,
    ended: bool,
    /// Whether the fetcher knows splits' watermarks, by which it can pause them.
    knows_watermarks: bool,
    /// What the last batch holds of each split.
    ranges: Vec<(usize, Range<i64>)>,
    /// First row and split of each run of its rows.
    runs: Vec<(usize, usize)>,
    /// Offsets in the checkpoints under way, oldest first.
    checkpoints: VecDeque<(u64, Vec<PartitionOffset>)>,
    /// Whether complete checkpoints' offsets are committed to a group.
    commits: bool,
    /// Those of the newest complete checkpoint.
    allowed: Vec<PartitionOffset>,
    /// Since when the task waits for the last commit.
    closing: Option<Instant>,
}

impl KafkaSourceReader {
    pub(crate) fn start(
        settings: Arc<SourceSettings>,
        context: ConnectorContext,
    ) -> Result<Self, ConnectorError> {
        let (sender, receiver) = bounded(HAND_OVER_BYTES);
        let restored = context.restored.as_ref().map(RestoredSplits::new).transpose()?;
        let mine =
            |partition: &TopicPartition| split_owner(partition, context.parallelism) == context.subtask;
        let positions = Positions {
            restored: restored.as_ref().map_or_else(Vec::new, |splits| splits.of(mine)),
            restored_complete: restored.as_ref().is_some_and(|splits| splits.complete),
            ..Positions::default()
        };
        let shared = Arc::new(ReaderShared {
            positions: Mutex::new(positions),
            ..ReaderShared::default()
        });
        let knows_watermarks = settings.watermarks.is_some();
        let commits = context.checkpointing && settings.commit_interval.is_some();
        let task = FetchTask {
            settings,
            subtask: context.subtask,
            parallelism: context.parallelism,
            checkpointing: context.checkpointing,
            restored,
            io: context.io,
            shared: Arc::clone(&shared),
        };
        thread::Builder::new()
            .name(format!("kafka-fetch-{}", context.subtask))
            .spawn(move || fetcher::run(&task, &sender))
            .map_err(|error| {
                ConnectorError::Unavailable(format!("no thread for the Kafka reader: {error}"))
            })?;
        Ok(Self {
            receiver,
            shared,
            ended: false,
            knows_watermarks,
            ranges: Vec::new(),
            runs: Vec::new(),
            checkpoints: VecDeque::new(),
            commits,
            allowed: Vec::new(),
            closing: None,
        })
    }

    /// The next offset of each partition behind the rows that [`SourceReader::poll_next`] has given: what a checkpoint stores.
    /// Empty until the partitions are known.
    pub fn snapshot_offsets(&self) -> Vec<PartitionOffset> {
        self.shared.handed()
    }
}

impl SourceReader for KafkaSourceReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        if self.ended {
            return Poll::Ready(Ok(SourceEvent::EndOfInput));
        }
        // At its end the fetcher commits what was handed over once the queue is empty: the last batch's offsets too.
        let (shared, ranges) = (&self.shared, &mut self.ranges);
        let note = |handed: &Handed| {
            if let Handed::Batch { offsets, .. } = handed {
                shared.advance(offsets, ranges);
            }
        };
        self.receiver
            .poll_pop_noting(cx, note)
            .map(|handed| match handed {
                Some(Handed::Batch { batch, runs, .. }) => {
                    self.runs = runs;
                    Ok(SourceEvent::Batch(batch))
                }
                Some(Handed::Idle) => Ok(SourceEvent::Idle),
                Some(Handed::End) => {
                    self.ended = true;
                    Ok(SourceEvent::EndOfInput)
                }
                Some(Handed::Failed(error)) => Err(error),
                None => Err(ConnectorError::Unavailable(
                    "the Kafka reader's thread ended without a reason".to_owned(),
                )),
            })
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        self.checkpoints.push_back((checkpoint_id, self.shared.handed()));
        if self.checkpoints.len() > MAX_CHECKPOINTS {
            self.checkpoints.pop_front();
        }
        Ok(self.shared.state())
    }

    fn position(&self) -> Option<String> {
        self.shared.describe(&self.ranges)
    }

    fn report_watermarks(&mut self, rows: &[u32], watermarks: &Int64Array) {
        let ends = self.runs.iter().skip(1).map(|(row, _)| *row).chain([usize::MAX]);
        let mut at = 0;
        for ((_, split), end) in self.runs.iter().zip(ends) {
            let count = rows[at..].partition_point(|row| (*row as usize) < end);
            let largest = arrow::compute::max(&watermarks.slice(at, count));
            if let Some(largest) = largest {
                self.shared.report(*split, largest);
            }
            at += count;
        }
    }

    fn align_splits(&mut self, max_watermark_ms: i64) -> bool {
        self.shared
            .max_watermark
            .0
            .store(max_watermark_ms, Ordering::Relaxed);
        self.knows_watermarks || self.shared.lock().handed.len() <= 1
    }

    fn on_checkpoint_end(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), ConnectorError> {
        let ended = |(id, _): &(u64, Vec<PartitionOffset>)| *id == checkpoint_id;
        let Some(place) = self.checkpoints.iter().position(ended) else {
            return Ok(());
        };
        if !completed {
            self.checkpoints.remove(place);
        } else if let Some((_, offsets)) = self.checkpoints.drain(..=place).next_back() {
            self.allowed.clone_from(&offsets);
            self.shared.lock().to_commit = Some(offsets);
        }
        Ok(())
    }

    fn awaits_checkpoint(&self) -> bool {
        self.ended && self.commits && self.shared.handed() != self.allowed
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.commits || self.allowed.is_empty() {
            return Poll::Ready(());
        }
        let mut positions = self.shared.lock();
        match self.closing {
            // Once more, so that it can be waited for, even if it has been sent.
            None => {
                positions.to_commit = Some(self.allowed.clone());
                self.closing = Some(Instant::now());
            }
            Some(_) if positions.closing.is_none() => return Poll::Ready(()),
            Some(since) if since.elapsed() >= LAST_COMMIT_PATIENCE => {
                tracing::warn!("the last Kafka offsets were not committed in time");
                return Poll::Ready(());
            }
            Some(_) => {}
        }
        positions.closing = Some(cx.waker().clone());
        Poll::Pending
    }

    fn gauges(&self) -> Vec<Gauge> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        vec![
            (
                "pendingRecords",
                self.shared.pending_records.load(Ordering::Relaxed) as f64,
            ),
            (
                "KafkaSourceReader_commitsSucceeded",
                count(&self.shared.commits_succeeded),
            ),
            (
                "KafkaSourceReader_commitsFailed",
                count(&self.shared.commits_failed),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;
    use futures::task::noop_waker;

    fn at(partition: i32, offset: i64) -> PartitionOffset {
        PartitionOffset {
            partition: TopicPartition {
                topic: "t".into(),
                partition,
            },
            offset,
        }
    }

    fn reader(restored: Vec<SplitPosition>, restored_complete: bool) -> KafkaSourceReader {
        let positions = Positions {
            restored,
            restored_complete,
            ..Positions::default()
        };
        let (_, receiver) = bounded(HAND_OVER_BYTES);
        KafkaSourceReader {
            receiver,
            shared: Arc::new(ReaderShared {
                positions: Mutex::new(positions),
                ..ReaderShared::default()
            }),
            ended: false,
            knows_watermarks: false,
            ranges: Vec::new(),
            runs: Vec::new(),
            checkpoints: VecDeque::new(),
            commits: true,
            allowed: Vec::new(),
            closing: None,
        }
    }

    fn split(position: PartitionOffset) -> SplitPosition {
        SplitPosition { position, stop: None }
    }

    /// A checkpoint before the partitions were found holds what was restored, as it was: partitions that came since are new
    /// to a second restore only if the first one's checkpoint knew all there were.
    #[test]
    fn a_reader_that_has_found_nothing_yet_stores_what_it_was_restored_with() {
        for complete in [false, true] {
            let mut reader = reader(vec![split(at(0, 7))], complete);
            let states = reader.snapshot(1).unwrap();
            let restored = crate::RestoredConnector {
                checkpoint_id: 1,
                states,
                committables: Vec::new(),
            };
            let restored = RestoredSplits::new(&restored).unwrap();
            assert_eq!(restored.complete, complete);
            assert_eq!(restored.get(&at(0, 7).partition).unwrap().position, at(0, 7));
            assert!(restored.get(&at(1, 0).partition).is_none());
        }
    }

    #[test]
    fn behind_its_end_it_waits_for_the_checkpoint_that_holds_the_end() {
        let mut reader = reader(Vec::new(), false);
        reader.shared.add_splits(vec![split(at(0, 5))]);
        reader.snapshot(1).unwrap();
        reader.shared.advance(&[(0, 9)], &mut Vec::new());
        assert!(!reader.awaits_checkpoint(), "it has not ended");
        reader.ended = true;
        reader.on_checkpoint_end(1, true).unwrap();
        assert!(reader.awaits_checkpoint(), "that one was before the end");
        reader.snapshot(2).unwrap();
        reader.on_checkpoint_end(2, false).unwrap();
        assert!(reader.awaits_checkpoint());
        reader.snapshot(3).unwrap();
        reader.on_checkpoint_end(3, true).unwrap();
        assert!(!reader.awaits_checkpoint());
    }

    #[test]
    fn the_task_ends_when_the_last_offsets_were_committed() {
        let mut reader = reader(Vec::new(), false);
        reader.shared.add_splits(vec![split(at(0, 5))]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(reader.poll_close(&mut cx).is_ready(), "nothing may be committed");
        reader.snapshot(1).unwrap();
        reader.on_checkpoint_end(1, true).unwrap();
        // Sent, and not known to have arrived.
        assert!(!reader.shared.take_to_commit().unwrap().last);
        assert!(reader.poll_close(&mut cx).is_pending());
        let again = reader.shared.take_to_commit().unwrap();
        assert_eq!((again.offsets, again.last), (vec![at(0, 5)], true));
        assert!(reader.poll_close(&mut cx).is_pending());
        reader.shared.last_commit_done();
        assert!(reader.poll_close(&mut cx).is_ready());
    }

    #[test]
    fn reported_watermarks_are_the_largest_of_each_splits_rows() {
        let shared = Arc::new(ReaderShared::default());
        let (_sender, receiver) = bounded(HAND_OVER_BYTES);
        let mut reader = KafkaSourceReader {
            receiver,
            shared: Arc::clone(&shared),
            ended: false,
            knows_watermarks: true,
            ranges: Vec::new(),
            // Rows 0 and 1 of split 4, 2 of split 2, then split 4 again.
            runs: vec![(0, 4), (2, 2), (3, 4)],
            checkpoints: VecDeque::new(),
            commits: false,
            allowed: Vec::new(),
            closing: None,
        };
        // Row 1 became two rows, row 2 none.
        let watermarks = Int64Array::from(vec![Some(5), Some(9), None, Some(7)]);
        reader.report_watermarks(&[0, 1, 1, 3], &watermarks);
        assert_eq!(shared.take_reported(), [(4, 9)]);
        reader.report_watermarks(&[1, 2], &Int64Array::from(vec![1, 3]));
        reader.report_watermarks(&[2, 3], &Int64Array::from(vec![2, 8]));
        assert_eq!(shared.take_reported(), [(4, 8), (2, 3)]);
        assert_eq!(shared.take_reported(), []);
    }

    /// What a fetcher does at its end: it waits until the queue is empty and commits what was handed over.
    #[test]
    fn a_fetcher_that_sees_the_queue_empty_sees_the_last_batchs_offsets() {
        const BATCHES: i64 = 2_000;
        let shared = Arc::new(ReaderShared::default());
        shared.add_splits(vec![SplitPosition {
            position: PartitionOffset {
                partition: TopicPartition {
                    topic: "t".into(),
                    partition: 0,
                },
                offset: 0,
            },
            stop: None,
        }]);
        let (sender, receiver) = bounded(HAND_OVER_BYTES);
        let mut reader = KafkaSourceReader {
            receiver,
            shared: Arc::clone(&shared),
            ended: false,
            knows_watermarks: false,
            ranges: Vec::new(),
            runs: Vec::new(),
            checkpoints: VecDeque::new(),
            commits: false,
            allowed: Vec::new(),
            closing: None,
        };
        let fetcher = thread::spawn(move || {
            for offset in 1..=BATCHES {
                let batch = StreamBatch::new(RecordBatch::new_empty(Arc::new(Schema::empty())));
                let offsets = vec![(0, offset)];
                let runs = Vec::new();
                sender.push(Handed::Batch { batch, offsets, runs }, 1);
                while !sender.is_drained() {
                    std::hint::spin_loop();
                }
                assert_eq!(shared.handed()[0].offset, offset);
            }
        });
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut taken = 0;
        while taken < BATCHES && !fetcher.is_finished() {
            taken += i64::from(reader.poll_next(&mut cx).is_ready());
        }
        fetcher.join().unwrap();
    }
}
