//! What the fetching thread does now and then: look for partitions, commit offsets.

use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{Abort, Connection, SourceConsumer};
use super::fetcher::FetchTask;
use super::source::SourceSettings;
use super::split::PartitionOffset;
use crate::ConnectorError;

/// How long brokers may be away during one look at the metadata.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) type Look = Result<Vec<(Arc<str>, Vec<i32>)>, ConnectorError>;

/// Looks for new partitions beside the reading.
pub(crate) struct Discovery {
    pub(crate) interval: Option<Duration>,
    pub(crate) due: Instant,
    pub(crate) answer: Option<mpsc::Receiver<Look>>,
}

impl Discovery {
    pub(crate) fn poll(
        &mut self,
        task: &FetchTask,
        consumer: &Arc<SourceConsumer>,
        now: Instant,
    ) -> Option<Look> {
        let interval = self.interval?;
        if let Some(answer) = &self.answer {
            let found = answer.try_recv();
            if matches!(found, Err(TryRecvError::Empty)) {
                return None;
            }
            self.answer = None;
            self.due = now + interval;
            return found.ok();
        }
        if now >= self.due {
            let (sender, answer) = mpsc::sync_channel(1);
            let (consumer, settings) = (Arc::clone(consumer), Arc::clone(&task.settings));
            task.io.spawn_blocking(move || {
                // who asked may be gone
                let _ = sender.send(look(&consumer, &settings));
            });
            self.answer = Some(answer);
        }
        None
    }
}

/// Blocks. A topic that is gone ends the job, as it does in Flink; brokers that are away are asked again next time.
fn look(consumer: &SourceConsumer, settings: &SourceSettings) -> Look {
    let connection = Connection {
        servers: &settings.servers,
        timeout: DISCOVERY_TIMEOUT,
        cancelled: &|patience| {
            std::thread::sleep(patience);
            false
        },
        complaint: &|| None,
    };
    let mut found = Vec::new();
    for topic in &settings.topics {
        match connection.partitions(consumer.client(), topic) {
            Ok(partitions) => found.push((Arc::clone(topic), partitions)),
            Err(Abort::Failed(ConnectorError::Unavailable(reason))) => {
                tracing::warn!(%topic, reason, "no look at the topic's partitions; tried again");
            }
            Err(Abort::Failed(error)) => return Err(error),
            Err(Abort::Cancelled) => {}
        }
    }
    Ok(found)
}

/// Commits to the group what had been handed over one interval before: rows of the last interval may still be on their way
/// through the job.
pub(crate) struct Commits {
    pub(crate) interval: Option<Duration>,
    pub(crate) due: Instant,
    pub(crate) handed: Vec<PartitionOffset>,
    pub(crate) committed: Vec<PartitionOffset>,
}

impl Commits {
    pub(crate) fn tick(&mut self, consumer: &SourceConsumer, handed: Vec<PartitionOffset>, now: Instant) {
        self.due = now + self.interval.unwrap_or_default();
        let settled = std::mem::replace(&mut self.handed, handed);
        self.commit_lazily(consumer, &settled);
    }

    /// Commits without waiting; what fails is part of the next commit.
    pub(crate) fn commit_lazily(&mut self, consumer: &SourceConsumer, offsets: &[PartitionOffset]) {
        if let Err(error) = self.commit(consumer, offsets, CommitMode::Async) {
            tracing::warn!(%error, "Kafka offsets were not committed; tried again");
        }
    }

    /// Commits and waits for the answer, also what was committed without waiting.
    pub(crate) fn commit_last(&mut self, consumer: &SourceConsumer, offsets: &[PartitionOffset]) {
        self.committed.clear();
        if let Err(error) = self.commit(consumer, offsets, CommitMode::Sync) {
            tracing::warn!(%error, "the last Kafka offsets were not committed");
        }
    }

    pub(crate) fn commit(
        &mut self,
        consumer: &SourceConsumer,
        offsets: &[PartitionOffset],
        mode: CommitMode,
    ) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        let moved = |position: &&PartitionOffset| position.offset >= 0 && !self.committed.contains(position);
        for position in offsets.iter().filter(moved) {
            let partition = &position.partition;
            list.add_partition_offset(
                &partition.topic,
                partition.partition,
                Offset::Offset(position.offset),
            )?;
        }
        if list.count() > 0 {
            consumer.commit(&list, mode)?;
            self.committed = offsets.to_vec();
        }
        Ok(())
    }
}
