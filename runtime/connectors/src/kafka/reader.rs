//! The task's side of a Kafka reader: takes finished batches and knows how far it is.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use thalweg_types::StreamBatch;

use super::fetcher::{self, FetchTask};
use super::source::SourceSettings;
use super::split::PartitionOffset;
use crate::queue::{HAND_OVER_BYTES, Receiver, bounded};
use crate::{ConnectorContext, ConnectorError, Gauge, SourceEvent, SourceReader};

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

/// What both sides know.
#[derive(Debug, Default)]
pub(crate) struct ReaderShared {
    handed: Mutex<Vec<PartitionOffset>>,
    pub(crate) pending_records: AtomicI64,
    pub(crate) commits_succeeded: AtomicU64,
    pub(crate) commits_failed: AtomicU64,
}

impl ReaderShared {
    fn lock(&self) -> MutexGuard<'_, Vec<PartitionOffset>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the next split at its start.
    pub(crate) fn add_split(&self, start: PartitionOffset) {
        self.lock().push(start);
    }

    /// The next offset of each split behind the rows that the task took.
    pub(crate) fn handed(&self) -> Vec<PartitionOffset> {
        self.lock().clone()
    }

    fn advance(&self, offsets: &[(usize, i64)]) {
        let mut handed = self.lock();
        for (split, offset) in offsets {
            if let Some(position) = handed.get_mut(*split) {
                position.offset = *offset;
            }
        }
    }
}

/// Reads the partitions of one subtask.
pub struct KafkaSourceReader {
    receiver: Receiver<Handed>,
    shared: Arc<ReaderShared>,
    ended: bool,
}

impl KafkaSourceReader {
    pub(crate) fn start(
        settings: Arc<SourceSettings>,
        context: ConnectorContext,
    ) -> Result<Self, ConnectorError> {
        let (sender, receiver) = bounded(HAND_OVER_BYTES);
        let shared = Arc::new(ReaderShared::default());
        let task = FetchTask {
            settings,
            subtask: context.subtask,
            parallelism: context.parallelism,
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
