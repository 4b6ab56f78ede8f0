//! The task's side of a Kafka reader: takes finished batches and knows how far it is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use thalweg_types::StreamBatch;

use super::fetcher::{self, FetchTask};
use super::source::SourceSettings;
use super::split::{PartitionOffset, TopicPartition, split_owner};
use super::state::{RestoredSplits, SplitPosition, reader_state};
use crate::queue::{HAND_OVER_BYTES, Receiver, bounded};
use crate::{ConnectorContext, ConnectorError, Gauge, SourceEvent, SourceReader};

/// Checkpoints whose end is waited for; the oldest is forgotten, a later one commits more.
const MAX_CHECKPOINTS: usize = 64;

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
}

/// What both sides know.
#[derive(Debug, Default)]
pub(crate) struct ReaderShared {
    positions: Mutex<Positions>,
    pub(crate) pending_records: AtomicI64,
    pub(crate) commits_succeeded: AtomicU64,
    pub(crate) commits_failed: AtomicU64,
}

impl ReaderShared {
    fn lock(&self) -> MutexGuard<'_, Positions> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) fn take_to_commit(&self) -> Option<Vec<PartitionOffset>> {
        self.lock().to_commit.take()
    }

    fn advance(&self, offsets: &[(usize, i64)]) {
        let mut positions = self.lock();
        for (split, offset) in offsets {
            if let Some(split) = positions.handed.get_mut(*split) {
                split.position.offset = *offset;
            }
        }
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
    /// Offsets in the checkpoints under way, oldest first.
    checkpoints: VecDeque<(u64, Vec<PartitionOffset>)>,
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
            checkpoints: VecDeque::new(),
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
        let note = |handed: &Handed| {
            if let Handed::Batch { offsets, .. } = handed {
                self.shared.advance(offsets);
            }
        };
        self.receiver
            .poll_pop_noting(cx, note)
            .map(|handed| match handed {
                Some(Handed::Batch { batch, .. }) => Ok(SourceEvent::Batch(batch)),
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

    fn on_checkpoint_end(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), ConnectorError> {
        let ended = |(id, _): &(u64, Vec<PartitionOffset>)| *id == checkpoint_id;
        let Some(place) = self.checkpoints.iter().position(ended) else {
            return Ok(());
        };
        if !completed {
            self.checkpoints.remove(place);
        } else if let Some((_, offsets)) = self.checkpoints.drain(..=place).next_back() {
            self.shared.lock().to_commit = Some(offsets);
        }
        Ok(())
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
            checkpoints: VecDeque::new(),
        };
        let fetcher = thread::spawn(move || {
            for offset in 1..=BATCHES {
                let batch = StreamBatch::new(RecordBatch::new_empty(Arc::new(Schema::empty())));
                let offsets = vec![(0, offset)];
                sender.push(Handed::Batch { batch, offsets }, 1);
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
