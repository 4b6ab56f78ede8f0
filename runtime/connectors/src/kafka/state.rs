//! A Kafka reader's state in a checkpoint: its splits, where each is to be read on, and where it ends.

use std::collections::HashMap;

use super::source::SourceSettings;
use super::split::{PartitionOffset, TopicPartition};
use crate::split_state::{decode, encode};
use crate::{ConnectorError, RestoredConnector};

#[derive(Clone, PartialEq, prost::Message)]
struct ReaderState {
    /// Whether the reader had found its partitions; until then it has no splits.
    #[prost(bool, tag = "1")]
    discovered: bool,
    #[prost(message, repeated, tag = "2")]
    splits: Vec<SplitState>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SplitState {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(int32, tag = "2")]
    partition: i32,
    #[prost(sint64, tag = "3")]
    offset: i64,
    #[prost(sint64, optional, tag = "4")]
    stop: Option<i64>,
}

/// Where a split is, and its end if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SplitPosition {
    pub(crate) position: PartitionOffset,
    pub(crate) stop: Option<i64>,
}

/// For a checkpoint.
pub(crate) fn reader_state(discovered: bool, splits: &[SplitPosition]) -> Vec<Vec<u8>> {
    let split = |split: &SplitPosition| SplitState {
        topic: split.position.partition.topic.to_string(),
        partition: split.position.partition.partition,
        offset: split.position.offset,
        stop: split.stop,
    };
    vec![encode(&ReaderState {
        discovered,
        splits: splits.iter().map(split).collect(),
    })]
}

/// What all readers had when the checkpoint was taken.
#[derive(Debug, Default)]
pub(crate) struct RestoredSplits {
    splits: HashMap<TopicPartition, SplitPosition>,
    /// Every reader had found its partitions: others have come since.
    pub(crate) complete: bool,
}

impl RestoredSplits {
    pub(crate) fn new(restored: &RestoredConnector) -> Result<Self, ConnectorError> {
        let states: Vec<ReaderState> = decode("Kafka source", &restored.states)?;
        let complete = !states.is_empty() && states.iter().all(|state| state.discovered);
        let position = |split: SplitState| {
            let partition = TopicPartition {
                topic: split.topic.into(),
                partition: split.partition,
            };
            let position = SplitPosition {
                position: PartitionOffset {
                    partition: partition.clone(),
                    offset: split.offset,
                },
                stop: split.stop,
            };
            (partition, position)
        };
        let splits = states.into_iter().flat_map(|state| state.splits).map(position);
        Ok(Self {
            splits: splits.collect(),
            complete,
        })
    }

    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<&SplitPosition> {
        self.splits.get(partition)
    }

    /// Refuses if one of a subtask's splits that has something to give is not among the partitions that were found. Those of topics that
    /// the source reads no more are given up.
    pub(crate) fn check(
        &self,
        found: &[TopicPartition],
        mine: impl Fn(&TopicPartition) -> bool,
        settings: &SourceSettings,
    ) -> Result<(), ConnectorError> {
        let to_be_read = |split: &SplitPosition| split.stop.is_none_or(|stop| split.position.offset < stop);
        for split in self.of(mine).into_iter().filter(to_be_read) {
            let PartitionOffset { partition, offset } = &split.position;
            let (topic, number) = (&*partition.topic, partition.partition);
            if !settings.topics.contains(&partition.topic) {
                tracing::warn!(
                    topic,
                    partition = number,
                    offset,
                    "Kafka split of the checkpoint is given up: the source reads other topics now"
                );
            } else if !found.contains(partition) {
                return Err(ConnectorError::Refused(format!(
                    "Kafka topic {topic:?} partition {number} is to be read on from offset {offset} by the checkpoint and is not on brokers {}: \
                     was the topic made anew with fewer partitions? Restore what belongs to this topic, or give the source another uid to \
                     begin anew",
                    settings.servers
                )));
            }
        }
        Ok(())
    }

    /// Those that this says are a subtask's, in an order that doesn't change.
    pub(crate) fn of(&self, mine: impl Fn(&TopicPartition) -> bool) -> Vec<SplitPosition> {
        let mut own: Vec<_> = self
            .splits
            .values()
            .filter(|split| mine(&split.position.partition))
            .cloned()
            .collect();
        own.sort_by(|left, right| left.position.partition.cmp(&right.position.partition));
        own
    }
}
