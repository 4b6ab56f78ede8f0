//! Marks partitions that are complete with a file, `_SUCCESS`. Flink's partition commit.
//!
//! ```text
//!   rows -> partitions pending --barrier: the trigger--> a committable beside those of the part files
//!   checkpoint complete: part files become visible, then the partition's mark
//! ```
//!
//! Part files are finished at each checkpoint, so that a mark is never before a row that was written before it. Invariant: a
//! pending partition is in the checkpoint until its mark is a committable, and that is in one until the mark is written.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::AsArray;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use prost::Message;
use thalweg_formats::text::{TimestampFormat, parse_date, parse_timestamp};
use thalweg_plan::connector::ConnectorProblem;
use thalweg_storage::FileSystems;
use thalweg_types::StreamBatch;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::partitions::Partitions;
use crate::split_state::encode;
use crate::table::options::{TableOptions, problem};
use crate::{
    Committable, ConnectorContext, ConnectorError, FileSink, Gauge, RestoredConnector, Sink, SinkWriter,
    StateDistribution,
};

/// What states and committables of partitions begin with; those of the file sink are protobuf messages, which never begin so.
const MARK: &[u8; 8] = b"\xFFpartit\xFF";
const SUCCESS_FILE: &str = "_SUCCESS";

/// When a partition is complete, and what says so.
#[derive(Debug, Clone)]
pub(super) struct CommitPolicy {
    partitions: Partitions,
    success_file: String,
    trigger: Trigger,
    delay_ms: i64,
}

#[derive(Debug, Clone)]
enum Trigger {
    /// The time since its first row.
    ProcessTime,
    /// The watermark has passed the partition's time; the pattern makes that of its values.
    PartitionTime(Option<String>),
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartitionState {
    #[prost(string, tag = "1")]
    bucket: String,
    /// When its first row came.
    #[prost(sint64, tag = "2")]
    since_ms: i64,
}

impl CommitPolicy {
    /// `None`: partitions are not marked.
    pub(super) fn read(
        options: &TableOptions<'_>,
        partitions: &Partitions,
    ) -> Result<Option<Self>, ConnectorProblem> {
        const KIND: &str = "sink.partition-commit.policy.kind";
        const ZONE: &str = "sink.partition-commit.watermark-time-zone";
        const PATTERN: &str = "partition.time-extractor.timestamp-pattern";
        let trigger = options.choice(
            "sink.partition-commit.trigger",
            &[("process-time", false), ("partition-time", true)],
            false,
        )?;
        let delay = options
            .duration("sink.partition-commit.delay")?
            .unwrap_or_default();
        options.choice("partition.time-extractor.kind", &[("default", ())], ())?;
        if let Some(zone) = options
            .get(ZONE)
            .filter(|zone| !["UTC", "Z", "GMT"].contains(zone))
        {
            return Err(problem(
                ZONE,
                format!("'{ZONE}' = '{zone}' is not supported yet: UTC is."),
            ));
        }
        let Some(kinds) = options.get(KIND) else {
            return Ok(None);
        };
        if let Some(other) = kinds.split(',').find(|kind| kind.trim() != "success-file") {
            return Err(problem(
                KIND,
                format!("'{KIND}' = '{other}' is not supported: success-file is."),
            ));
        }
        if partitions.is_empty() {
            return Ok(None);
        }
        let policy = Self {
            partitions: partitions.clone(),
            success_file: options
                .get("sink.partition-commit.success-file.name")
                .unwrap_or(SUCCESS_FILE)
                .to_owned(),
            trigger: match trigger {
                true => Trigger::PartitionTime(options.get(PATTERN).map(str::to_owned)),
                false => Trigger::ProcessTime,
            },
            delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
        };
        if policy.success_file.is_empty() || policy.success_file.contains('/') {
            let key = "sink.partition-commit.success-file.name";
            return Err(problem(
                key,
                format!("'{key}' = '{}' is no file's name.", policy.success_file),
            ));
        }
        Ok(Some(policy))
    }

    fn is_complete(
        &self,
        pending: &PartitionState,
        watermark_ms: i64,
        now_ms: i64,
    ) -> Result<bool, ConnectorError> {
        Ok(match &self.trigger {
            Trigger::ProcessTime => now_ms >= pending.since_ms.saturating_add(self.delay_ms),
            Trigger::PartitionTime(pattern) => {
                let time_ms = self.time_of(&pending.bucket, pattern.as_deref())?;
                watermark_ms > time_ms.saturating_add(self.delay_ms)
            }
        })
    }

    /// The time of a partition in milliseconds, as Flink's default extractor makes it.
    fn time_of(&self, bucket: &str, pattern: Option<&str>) -> Result<i64, ConnectorError> {
        let values = self.partitions.values_of(bucket).unwrap_or_default();
        let value = |value: &Option<String>| value.clone().unwrap_or_default();
        let text = match pattern {
            None => values.first().map(|(_, first)| value(first)).unwrap_or_default(),
            // Longer names first: `$dt` is in `$dt2`.
            Some(pattern) => {
                let mut by_length: Vec<_> = values.iter().collect();
                by_length.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
                by_length
                    .iter()
                    .fold(pattern.to_owned(), |text, (name, of_name)| {
                        text.replace(&format!("${name}"), &value(of_name))
                    })
            }
        };
        let time = parse_timestamp(text.as_bytes(), TimestampFormat::Sql)
            .map(|instant| instant.seconds * 1_000 + i64::from(instant.nanos / 1_000_000));
        let date = || parse_date(text.as_bytes()).map(|days| i64::from(days) * 86_400_000);
        time.or_else(date).ok_or_else(|| {
            ConnectorError::Refused(format!(
                "file sink: the partition {bucket:?} has the time {text:?}, which is neither yyyy-MM-dd HH:mm:ss nor yyyy-MM-dd: set \
                 'partition.time-extractor.timestamp-pattern'"
            ))
        })
    }
}

/// A file sink that marks partitions. Its rows' last column is their bucket.
pub(super) struct PartitionCommitSink {
    pub(super) inner: Arc<FileSink>,
    pub(super) policy: Arc<CommitPolicy>,
    pub(super) folder: String,
}

impl Sink for PartitionCommitSink {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn validate(&self, input: &SchemaRef) -> Result<(), ConnectorError> {
        self.inner.validate(input)
    }

    fn create_writer(&self, mut context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        let pending = take_own(context.restored.as_mut())?;
        let (io, files) = (context.io.clone(), context.files.clone());
        Ok(Box::new(CommitWriter {
            inner: self.inner.create_writer(context)?,
            policy: Arc::clone(&self.policy),
            folder: self.folder.clone(),
            files,
            io,
            pending: pending
                .into_iter()
                .map(|state| (state.bucket, state.since_ms))
                .collect(),
            watermark_ms: i64::MIN,
            ended: false,
            marking: None,
            files_done: false,
        }))
    }
}

fn own(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(MARK)
}

fn decode(bytes: &[u8]) -> Result<PartitionState, ConnectorError> {
    PartitionState::decode(bytes).map_err(|error| {
        ConnectorError::Refused(format!(
            "file sink: what the checkpoint holds is no partition ({error})"
        ))
    })
}

fn stored(state: &PartitionState) -> Vec<u8> {
    [MARK.as_slice(), &encode(state)].concat()
}

/// Pending partitions of the checkpoint; the file sink gets the rest.
fn take_own(restored: Option<&mut RestoredConnector>) -> Result<Vec<PartitionState>, ConnectorError> {
    let Some(restored) = restored else {
        return Ok(Vec::new());
    };
    let states = std::mem::take(&mut restored.states);
    let (mine, others): (Vec<_>, Vec<_>) = states.into_iter().partition(|state| own(state).is_some());
    restored.states = others;
    restored
        .committables
        .retain(|committable| own(&committable.bytes).is_none());
    mine.iter().filter_map(|state| own(state)).map(decode).collect()
}

struct CommitWriter {
    inner: Box<dyn SinkWriter>,
    policy: Arc<CommitPolicy>,
    folder: String,
    files: FileSystems,
    io: Handle,
    /// With rows and not marked; since when.
    pending: BTreeMap<String, i64>,
    watermark_ms: i64,
    ended: bool,
    /// Writes marks.
    marking: Option<JoinHandle<Result<(), String>>>,
    /// Of the commit under way.
    files_done: bool,
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl CommitWriter {
    fn note(&mut self, batch: &StreamBatch, rows: usize) {
        if let Some(cut) = batch.watermarks.iter().rev().find(|cut| cut.row as usize <= rows) {
            self.watermark_ms = self.watermark_ms.max(cut.timestamp_ms);
        }
        let buckets = batch
            .rows
            .columns()
            .last()
            .and_then(|column| column.as_string_opt::<i32>());
        let Some(buckets) = buckets else {
            return;
        };
        let mut last = None;
        for row in 0..rows {
            let bucket = buckets.value(row);
            if last != Some(bucket) && !self.pending.contains_key(bucket) {
                self.pending.insert(bucket.to_owned(), now_ms());
            }
            last = Some(bucket);
        }
    }

    fn mark(&self, buckets: Vec<String>) -> JoinHandle<Result<(), String>> {
        let (files, folder) = (self.files.clone(), self.folder.clone());
        let name = self.policy.success_file.clone();
        self.io.spawn(async move {
            let folder = files.open_folder(&folder).map_err(|error| error.to_string())?;
            for bucket in buckets {
                let path = format!("{bucket}/{name}");
                folder
                    .write(&path, Bytes::new())
                    .await
                    .map_err(|error| error.to_string())?;
            }
            Ok(())
        })
    }
}

impl SinkWriter for CommitWriter {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        self.inner.poll_ready(cx)
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        let taken = self.inner.write(batch)?;
        self.note(batch, taken);
        Ok(taken)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, end_of_input: bool) -> Poll<Result<(), ConnectorError>> {
        self.ended |= end_of_input;
        self.inner.poll_flush(cx, end_of_input)
    }

    fn prepare_commit(&mut self, checkpoint_id: u64) -> Result<Vec<Committable>, ConnectorError> {
        let mut committables = self.inner.prepare_commit(checkpoint_id)?;
        let now_ms = now_ms();
        for (bucket, since_ms) in std::mem::take(&mut self.pending) {
            let state = PartitionState { bucket, since_ms };
            if self.ended || self.policy.is_complete(&state, self.watermark_ms, now_ms)? {
                committables.push(Committable {
                    bytes: stored(&state),
                });
            } else {
                self.pending.insert(state.bucket, state.since_ms);
            }
        }
        Ok(committables)
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        let mut states = self.inner.snapshot(checkpoint_id)?;
        states.extend(self.pending.iter().map(|(bucket, since_ms)| {
            stored(&PartitionState {
                bucket: bucket.clone(),
                since_ms: *since_ms,
            })
        }));
        Ok(states)
    }

    fn snapshot_distribution(&self) -> StateDistribution {
        self.inner.snapshot_distribution()
    }

    fn poll_commit(
        &mut self,
        cx: &mut Context<'_>,
        committables: &[Committable],
    ) -> Poll<Result<(), ConnectorError>> {
        let (marks, files): (Vec<_>, Vec<_>) = committables
            .iter()
            .cloned()
            .partition(|committable| own(&committable.bytes).is_some());
        if !self.files_done {
            if !files.is_empty() {
                ready!(self.inner.poll_commit(cx, &files))?;
            }
            self.files_done = true;
        }
        if self.marking.is_none() && !marks.is_empty() {
            let states = marks.iter().filter_map(|mark| own(&mark.bytes)).map(decode);
            let states = states.collect::<Result<Vec<_>, _>>()?;
            self.marking = Some(self.mark(states.into_iter().map(|state| state.bucket).collect()));
        }
        if let Some(marking) = &mut self.marking {
            let marked = ready!(Pin::new(marking).poll(cx));
            self.marking = None;
            let failed = |what: String| {
                ConnectorError::Unavailable(format!(
                    "file sink {}: a partition can't be marked: {what}",
                    self.folder
                ))
            };
            marked
                .map_err(|error| failed(error.to_string()))?
                .map_err(failed)?;
        }
        self.files_done = false;
        Poll::Ready(Ok(()))
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.inner.gauges()
    }
}

impl Drop for CommitWriter {
    fn drop(&mut self) {
        if let Some(marking) = &self.marking {
            marking.abort();
        }
    }
}
