//! The thread that reads Kafka for one subtask.
//!
//! ```text
//!   connect: metadata -> own splits -> start and end offsets -> assign
//!   loop:    records -> columns -> batch -> bounded queue        full queue: stop taking; librdkafka stops fetching
//!            now and then: commit, look for partitions, pending records, idle splits
//! ```
//!
//! A batch goes out when it is full, when the task has nothing left to do, or when its first row has waited [`LINGER`].
//! Invariants: what is committed is in a complete checkpoint or, without checkpoints, was handed to the task at least one commit
//! interval ago; every partition of a topic is read by
//! the one subtask that [`split_owner`] names, whoever discovers it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use thalweg_types::{StreamBatch, WatermarkCut};
use tokio::runtime::Handle;

use super::client::{Abort, Connection, ConsumerEvents, SourceConsumer, is_final};
use super::duties::{Commits, Discovery};
use super::native::{FetchQueue, Fetched, Headers};
use super::offsets::resolve;
use super::reader::{Handed, ReaderShared};
use super::rows::{Record, Rows, TimestampType};
use super::source::SourceSettings;
use super::split::{EARLIEST_OFFSET, PartitionOffset, Split, Step, TopicPartition, split_owner};
use super::state::{RestoredSplits, SplitPosition};
use crate::ConnectorError;
use crate::queue::{Room, Sender};
use crate::watermark::{Progress, SplitWatermarks};

/// How long the thread waits for records or room before it looks at its other duties.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long rows wait for more while the task is busy.
const LINGER: Duration = Duration::from_millis(20);
/// How often the pending records are counted.
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread works on.
pub(crate) struct FetchTask {
    pub(crate) settings: Arc<SourceSettings>,
    pub(crate) subtask: u32,
    pub(crate) parallelism: u32,
    /// Offsets are committed when a checkpoint is complete, not by time.
    pub(crate) checkpointing: bool,
    pub(crate) restored: Option<RestoredSplits>,
    pub(crate) io: Handle,
    pub(crate) shared: Arc<ReaderShared>,
}

/// Reads until the end, an error, or until the reader is gone.
pub(crate) fn run(task: &FetchTask, sender: &Sender<Handed>) {
    match fetch(task, sender) {
        Ok(()) => {}
        Err(Abort::Failed(error)) => sender.push(Handed::Failed(error), 0),
        Err(Abort::Cancelled) => {}
    }
}

fn fetch(task: &FetchTask, sender: &Sender<Handed>) -> Result<(), Abort> {
    let consumer = task
        .settings
        .client
        .create_with_context::<_, SourceConsumer>(ConsumerEvents::default())
        .map_err(|error| ConnectorError::Refused(format!("the Kafka consumer can't be made: {error}")))?;
    let consumer = Arc::new(consumer);
    let queue = FetchQueue::new(Arc::clone(&consumer))
        .ok_or_else(|| ConnectorError::Unavailable("librdkafka can't make a queue".to_owned()))?;
    let mut fetcher = Fetcher::new(task, sender, consumer, queue);
    fetcher.start()?;
    fetcher.read()?;
    sender.push(Handed::End, 0);
    fetcher.commit_behind_end();
    Ok(())
}

struct Fetcher<'a> {
    task: &'a FetchTask,
    sender: &'a Sender<Handed>,
    consumer: Arc<SourceConsumer>,
    queue: FetchQueue<ConsumerEvents>,
    splits: Vec<Split>,
    index: HashMap<Arc<str>, HashMap<i32, usize>>,
    rows: Rows,
    first_row: Instant,
    watermarks: Option<SplitWatermarks>,
    idle_without_splits: bool,
    /// When reported watermarks were last taken.
    reports_taken: Instant,
    discovery: Discovery,
    commits: Commits,
    gauges_due: Instant,
}

impl<'a> Fetcher<'a> {
    fn new(
        task: &'a FetchTask,
        sender: &'a Sender<Handed>,
        consumer: Arc<SourceConsumer>,
        queue: FetchQueue<ConsumerEvents>,
    ) -> Self {
        let now = Instant::now();
        let settings = &task.settings;
        Self {
            rows: Rows::new(Arc::clone(&settings.format)),
            watermarks: settings.watermarks.clone().map(SplitWatermarks::new),
            discovery: Discovery {
                interval: settings.discovery_interval,
                due: now,
                answer: None,
            },
            commits: Commits {
                interval: settings.commit_interval,
                due: now,
                handed: Vec::new(),
                committed: Vec::new(),
            },
            splits: Vec::new(),
            index: HashMap::new(),
            first_row: now,
            idle_without_splits: false,
            reports_taken: now,
            gauges_due: now,
            task,
            sender,
            consumer,
            queue,
        }
    }

    /// Finds the subtask's splits and begins to fetch them.
    fn start(&mut self) -> Result<(), Abort> {
        let consumer = Arc::clone(&self.consumer);
        let settings = Arc::clone(&self.task.settings);
        let sender = self.sender;
        let complaint = || {
            serve(&consumer);
            consumer.context().last_error.get()
        };
        let connection = Connection {
            servers: &settings.servers,
            timeout: settings.connect_timeout,
            cancelled: &|patience| sender.wait_closed(patience),
            complaint: &complaint,
        };
        let mut partitions = Vec::new();
        for topic in &settings.topics {
            let found = connection.partitions(consumer.client(), topic)?;
            partitions.extend(self.owned(topic, &found));
        }
        if let Some(restored) = &self.task.restored {
            restored.check(&partitions, |partition| self.is_mine(partition), &settings)?;
        }
        let splits = self.first_splits(partitions, &connection)?;
        self.discovery.due = Instant::now() + self.discovery.interval.unwrap_or_default();
        self.assign(splits).map_err(Abort::from)
    }

    /// Restored splits go on where they were; partitions that have come since are read from their beginning, as Flink does.
    fn first_splits(
        &self,
        partitions: Vec<TopicPartition>,
        connection: &Connection<'_>,
    ) -> Result<Vec<Split>, Abort> {
        let FetchTask {
            settings, restored, ..
        } = self.task;
        let known = |partition: &TopicPartition| restored.as_ref().and_then(|splits| splits.get(partition));
        let (old, new): (Vec<_>, Vec<_>) = partitions
            .into_iter()
            .partition(|partition| known(partition).is_some());
        let starts = match restored {
            Some(splits) if splits.complete => vec![EARLIEST_OFFSET; new.len()],
            _ => resolve(&settings.starting, &self.consumer, connection, &new)?,
        };
        let stops = match &settings.bounded {
            Some(end) => resolve(end, &self.consumer, connection, &new)?
                .into_iter()
                .map(Some)
                .collect(),
            None => vec![None; new.len()],
        };
        let old = old
            .into_iter()
            .filter_map(|partition| known(&partition).map(|known| (partition.clone(), known)))
            .map(|(partition, known)| Split::new(partition, known.position.offset, known.stop));
        let new = new
            .into_iter()
            .zip(starts.into_iter().zip(stops))
            .map(|(partition, (start, stop))| Split::new(partition, start, stop));
        Ok(old.chain(new).collect())
    }

    fn owned(&self, topic: &Arc<str>, partitions: &[i32]) -> Vec<TopicPartition> {
        let partition = |id: &i32| TopicPartition {
            topic: Arc::clone(topic),
            partition: *id,
        };
        let known = |partition: &TopicPartition| {
            self.index
                .get(&partition.topic)
                .is_some_and(|known| known.contains_key(&partition.partition))
        };
        partitions
            .iter()
            .map(partition)
            .filter(|partition| self.is_mine(partition) && !known(partition))
            .collect()
    }

    fn is_mine(&self, partition: &TopicPartition) -> bool {
        split_owner(partition, self.task.parallelism) == self.task.subtask
    }

    fn assign(&mut self, splits: Vec<Split>) -> Result<(), ConnectorError> {
        let refused = |error: String| {
            ConnectorError::Unavailable(format!("Kafka partitions can't be assigned: {error}"))
        };
        let mut list = TopicPartitionList::new();
        let mut starts = Vec::with_capacity(splits.len());
        let now = Instant::now();
        for split in splits {
            let TopicPartition { topic, partition } = split.partition.clone();
            tracing::info!(%topic, partition, start = split.start, finished = split.finished, "Kafka split");
            if !split.finished {
                if !self.queue.forward(&topic, partition) {
                    return Err(refused(format!("librdkafka doesn't know {topic}-{partition}")));
                }
                list.add_partition_offset(&topic, partition, Offset::from_raw(split.start))
                    .map_err(|error| refused(error.to_string()))?;
            }
            if let Some(watermarks) = &mut self.watermarks {
                watermarks.add_split(now);
                if split.finished {
                    watermarks.on_finished(self.splits.len());
                }
            }
            self.index
                .entry(topic)
                .or_default()
                .insert(partition, self.splits.len());
            let start = PartitionOffset {
                partition: split.partition.clone(),
                offset: split.start,
            };
            self.commits.committed.push(start.clone());
            starts.push(SplitPosition {
                position: start,
                stop: split.stop,
            });
            self.splits.push(split);
        }
        self.task.shared.add_splits(starts);
        if list.count() == 0 {
            return Ok(());
        }
        self.consumer
            .incremental_assign(&list)
            .map_err(|error| refused(error.to_string()))
    }

    fn read(&mut self) -> Result<(), Abort> {
        loop {
            self.take_reported();
            match self.sender.room() {
                Room::Closed => return Err(Abort::Cancelled),
                Room::Full => self.wait_room(),
                Room::Free => self.take_records()?,
            }
            self.align()?;
            self.attend(Instant::now())?;
            if self.task.settings.bounded.is_some() && self.splits.iter().all(|split| split.finished) {
                return self.end();
            }
        }
    }

    /// Watermarks that were made of rows behind the queue. What is still in it has none yet: its splits are not idle meanwhile.
    fn take_reported(&mut self) {
        let Some(watermarks) = self
            .watermarks
            .as_mut()
            .filter(|_| self.task.settings.reported_watermarks)
        else {
            return;
        };
        let now = Instant::now();
        let since = now - std::mem::replace(&mut self.reports_taken, now);
        if self.rows.len() > 0 || !self.sender.is_drained() {
            watermarks.not_read_for(since, now);
        }
        for (split, watermark) in self.task.shared.take_reported() {
            // The watermark behind a timestamp is 1 less.
            watermarks.on_records(split, watermark.saturating_add(1), now);
        }
    }

    fn wait_room(&mut self) {
        let began = Instant::now();
        self.sender.wait_room(PATIENCE);
        if let Some(watermarks) = &mut self.watermarks {
            let now = Instant::now();
            watermarks.not_read_for(now - began, now);
        }
    }

    /// Pauses and resumes partitions by what watermark alignment allows.
    fn align(&mut self) -> Result<(), ConnectorError> {
        let limit = self.task.shared.max_watermark.get();
        let Some(watermarks) = &mut self.watermarks else {
            return Ok(());
        };
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (split, is_ahead) in watermarks.align(limit, Instant::now()) {
            let split = &self.splits[split];
            let list = if is_ahead { &mut pause } else { &mut resume };
            if !split.finished {
                list.add_partition(&split.partition.topic, split.partition.partition);
            }
        }
        // From the call on none of their records comes; they go on behind the last one that came.
        let paused = (pause.count() > 0).then(|| self.consumer.pause(&pause));
        let resumed = (resume.count() > 0).then(|| self.consumer.resume(&resume));
        let done = [paused, resumed].into_iter().flatten().collect::<Result<(), _>>();
        done.map_err(|error| {
            ConnectorError::Unavailable(format!(
                "Kafka partitions can't be paused or resumed for watermark alignment: {error}"
            ))
        })
    }

    /// Takes what is there, and gives a batch if it is time to.
    fn take_records(&mut self) -> Result<(), Abort> {
        let patience = match self.rows.len() {
            0 => PATIENCE,
            _ => LINGER.saturating_sub(self.first_row.elapsed()),
        };
        let was_empty = self.rows.len() == 0;
        self.gather(patience)?;
        if was_empty {
            self.first_row = Instant::now();
        }
        let rows = self.rows.len();
        if rows > 0 && (self.rows.is_full() || self.sender.is_drained() || self.first_row.elapsed() >= LINGER)
        {
            self.emit()?;
        }
        Ok(())
    }

    /// Moves records from librdkafka's queue into the columns.
    fn gather(&mut self, patience: Duration) -> Result<(), ConnectorError> {
        let Self {
            queue,
            splits,
            index,
            rows,
            task,
            watermarks,
            consumer,
            ..
        } = self;
        let servers = &task.settings.servers;
        let wants = rows.wants();
        let limit = thalweg_types::element::TARGET_BATCH_ROWS
            .saturating_sub(rows.len())
            .max(1);
        let mut last = (0, -1, 0);
        let mut failure = None;
        let mut ended = Vec::new();
        queue.consume(patience, limit, |fetched| {
            if failure.is_some() {
                return false;
            }
            let partition = fetched.partition();
            if (fetched.topic_id(), partition) != (last.0, last.1) {
                let split = index.get(fetched.topic()).and_then(|topic| topic.get(&partition));
                let Some(split) = split else {
                    // errors of the whole client come without a partition
                    failure = fetched
                        .error()
                        .and_then(|code| partition_error(servers, &fetched, code));
                    return failure.is_none();
                };
                last = (fetched.topic_id(), partition, *split);
            }
            let split = &mut splits[last.2];
            let step = match fetched.error() {
                None => split.on_record(fetched.offset()),
                Some(RDKafkaErrorCode::PartitionEOF) if split.on_partition_eof() => Step::Ended,
                Some(RDKafkaErrorCode::PartitionEOF) => Step::Ignore,
                Some(code) => {
                    failure = partition_error(servers, &fetched, code);
                    return failure.is_none();
                }
            };
            if matches!(step, Step::TakeLast | Step::Ended) {
                ended.push(last.2);
            }
            if matches!(step, Step::Take | Step::TakeLast) {
                let record = Record {
                    offset: fetched.offset(),
                    key: fetched.key(),
                    value: fetched.value(),
                    timestamp: if wants.timestamps {
                        fetched.timestamp()
                    } else {
                        None
                    },
                    timestamp_type: match wants.timestamp_types {
                        true => fetched.timestamp_type(),
                        false => TimestampType::default(),
                    },
                    leader_epoch: match wants.leader_epochs {
                        true => fetched.leader_epoch(),
                        false => None,
                    },
                    headers: match wants.headers {
                        true => fetched.headers(),
                        false => Headers::default(),
                    },
                };
                if !rows.push(last.2, &record) {
                    failure = Some(no_value(&fetched));
                }
            }
            failure.is_none() && !rows.is_full()
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        for split in ended {
            if let Some(watermarks) = watermarks {
                watermarks.on_finished(split);
            }
            stop_fetching(consumer, &splits[split].partition);
        }
        Ok(())
    }

    fn emit(&mut self) -> Result<(), ConnectorError> {
        let finished = self.rows.finish(&self.splits)?;
        let mut batch = finished.batch;
        if let Some(watermarks) = &mut self.watermarks {
            let now = Instant::now();
            for (split, timestamp) in finished.timestamps {
                watermarks.on_records(split, timestamp, now);
            }
            if let Progress::Watermark(timestamp_ms) = watermarks.advance(now) {
                batch.watermarks.push(WatermarkCut {
                    row: batch.num_rows() as u32,
                    timestamp_ms,
                });
            }
        }
        let bytes = batch.memory_size();
        self.sender.push(
            Handed::Batch {
                batch,
                offsets: finished.offsets,
                runs: finished.runs,
            },
            bytes,
        );
        Ok(())
    }

    /// What is due besides records.
    fn attend(&mut self, now: Instant) -> Result<(), ConnectorError> {
        serve(&self.consumer);
        self.attend_idleness(now);
        self.attend_discovery(now)?;
        if now >= self.gauges_due {
            self.gauges_due = now + GAUGE_INTERVAL;
            self.count_pending();
        }
        if self.task.checkpointing {
            self.commit_what_checkpoints_allow();
        } else if self.commits.interval.is_some_and(|_| now >= self.commits.due) {
            let handed = self.task.shared.handed();
            self.commits.tick(&self.consumer, handed, now);
        }
        Ok(())
    }

    fn commit_what_checkpoints_allow(&mut self) {
        let allowed = self.task.shared.take_to_commit();
        let Some(allowed) = allowed.filter(|_| self.commits.interval.is_some()) else {
            return;
        };
        if allowed.last {
            self.commits.commit_last(&self.consumer, &allowed.offsets);
            self.task.shared.last_commit_done();
        } else {
            self.commits.commit_lazily(&self.consumer, &allowed.offsets);
        }
    }

    /// The checkpoint that holds the end is still to come.
    fn commit_behind_end(&mut self) {
        while self.task.checkpointing && self.commits.interval.is_some() && !self.sender.wait_closed(PATIENCE)
        {
            serve(&self.consumer);
            self.commit_what_checkpoints_allow();
        }
    }

    fn attend_idleness(&mut self, now: Instant) {
        if self.splits.is_empty() && !std::mem::replace(&mut self.idle_without_splits, true) {
            self.sender.push(Handed::Idle, 0);
        }
        if self.rows.len() > 0 {
            return;
        }
        match self.watermarks.as_mut().map(|watermarks| watermarks.advance(now)) {
            Some(Progress::Idle) => self.sender.push(Handed::Idle, 0),
            Some(Progress::Watermark(timestamp_ms)) => {
                let rows =
                    arrow::array::RecordBatch::new_empty(Arc::clone(&self.task.settings.format.schema));
                let mut batch = StreamBatch::new(rows);
                batch.watermarks.push(WatermarkCut { row: 0, timestamp_ms });
                self.sender.push(
                    Handed::Batch {
                        batch,
                        offsets: Vec::new(),
                        runs: Vec::new(),
                    },
                    0,
                );
            }
            Some(Progress::Unchanged) | None => {}
        }
    }

    fn attend_discovery(&mut self, now: Instant) -> Result<(), ConnectorError> {
        if let Some(found) = self.discovery.poll(self.task, &self.consumer, now) {
            for (topic, partitions) in found? {
                let new = self.owned(&topic, &partitions);
                // new partitions are read from their beginning, as Flink does: their first records came before we looked
                let splits = new
                    .into_iter()
                    .map(|partition| Split::new(partition, EARLIEST_OFFSET, None))
                    .collect();
                self.assign(splits)?;
            }
        }
        Ok(())
    }

    fn count_pending(&self) {
        let handed = self.task.shared.handed();
        let pending = |position: &PartitionOffset| {
            let end = self
                .queue
                .cached_end(&position.partition.topic, position.partition.partition)?;
            Some((end - position.offset.max(0)).max(0))
        };
        let pending = handed.iter().filter_map(pending).sum();
        self.task.shared.pending_records.store(pending, Ordering::Relaxed);
        let events = self.consumer.context();
        let copy = |from: &std::sync::atomic::AtomicU64, to: &std::sync::atomic::AtomicU64| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&events.commits_succeeded, &self.task.shared.commits_succeeded);
        copy(&events.commits_failed, &self.task.shared.commits_failed);
    }

    /// A bounded source is at its end: the rest goes out, and what the task took is committed.
    fn end(&mut self) -> Result<(), Abort> {
        if self.rows.len() > 0 {
            self.emit()?;
        }
        while !self.sender.wait_drained(PATIENCE) {
            serve(&self.consumer);
        }
        if self.sender.room() == Room::Closed {
            return Err(Abort::Cancelled);
        }
        // With checkpoints only what a complete one holds is committed.
        if self.commits.interval.is_some() && !self.task.checkpointing {
            let handed = self.task.shared.handed();
            if let Err(error) = self.commits.commit(&self.consumer, &handed, CommitMode::Sync) {
                tracing::warn!(%error, "the last Kafka offsets were not committed");
            }
        }
        Ok(())
    }
}

/// Serves logs, errors and commit answers; records never come this way.
fn serve(consumer: &SourceConsumer) {
    // bounded, so that a storm of errors doesn't keep the thread from its records
    for _ in 0..64 {
        if consumer.poll(Duration::ZERO).is_none() {
            break;
        }
    }
}

/// Whether an error of a partition ends the job.
fn partition_error(servers: &str, fetched: &Fetched<'_>, code: RDKafkaErrorCode) -> Option<ConnectorError> {
    let (topic, partition) = (fetched.topic(), fetched.partition());
    let text = fetched.error_text();
    match code {
        RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition => Some(ConnectorError::Refused(format!(
            "Kafka topic {topic:?} partition {partition} is gone from brokers {servers}: {text}"
        ))),
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
            Some(ConnectorError::Refused(format!(
                "Kafka topic {topic:?} partition {partition}: the position is not there any more: {text}; choose another \
             starting offset or a reset"
            )))
        }
        code if is_final(code) => Some(ConnectorError::Refused(format!(
            "Kafka brokers {servers} refuse topic {topic:?} partition {partition}: {text}"
        ))),
        // the client tries again by itself: a broker is away, a leader moves
        code => {
            tracing::warn!(topic, partition, %code, text, "Kafka partition");
            None
        }
    }
}

fn no_value(fetched: &Fetched<'_>) -> ConnectorError {
    ConnectorError::Malformed(format!(
        "Kafka topic {:?} partition {} offset {}: the record has no value (a tombstone): choose `tombstones` Skip or Null",
        fetched.topic(),
        fetched.partition(),
        fetched.offset()
    ))
}

fn stop_fetching(consumer: &SourceConsumer, partition: &TopicPartition) {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(&partition.topic, partition.partition);
    if let Err(error) = consumer.pause(&list) {
        tracing::debug!(%error, "a finished Kafka split is still fetched");
    }
}
