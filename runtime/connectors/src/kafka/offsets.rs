//! Where reading begins and ends, and how that becomes offsets.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{Abort, AttemptError, Connection, SourceConsumer, attempt_error};
use super::split::TopicPartition;
use crate::ConnectorError;

/// What a group without a committed offset begins with; Flink's `OffsetResetStrategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// The first record that is still there.
    Earliest,
    /// Behind the last record.
    Latest,
    /// An error.
    None,
}

/// A position in every partition; Flink's `OffsetsInitializer`. Used for the start and for the end of a bounded source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OffsetsInitializer {
    /// The first record that is still there.
    Earliest,
    /// Behind the last record (with `isolation.level` = `read_committed`: before the first open transaction).
    Latest,
    /// What the group has committed.
    Committed(OffsetReset),
    /// The first record of this time or later, in milliseconds since the epoch; the end if there is none.
    Timestamp(i64),
    /// These, by topic and partition; partitions that are not named begin at what is committed, else at the earliest.
    Offsets(HashMap<(String, i32), i64>),
}

impl OffsetsInitializer {
    /// librdkafka's `auto.offset.reset`, for a position that retention has removed; as Flink sets it.
    pub(crate) fn auto_offset_reset(&self) -> &'static str {
        match self {
            Self::Earliest | Self::Offsets(_) | Self::Committed(OffsetReset::Earliest) => "earliest",
            Self::Latest | Self::Timestamp(_) | Self::Committed(OffsetReset::Latest) => "latest",
            Self::Committed(OffsetReset::None) => "error",
        }
    }

    /// Whether it asks for a group.
    pub(crate) fn needs_group(&self) -> bool {
        matches!(self, Self::Committed(_))
    }
}

/// An offset for each partition, in their order.
pub(crate) fn resolve(
    initializer: &OffsetsInitializer,
    consumer: &SourceConsumer,
    connection: &Connection<'_>,
    partitions: &[TopicPartition],
) -> Result<Vec<i64>, Abort> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let list = |offset| list_offsets(consumer, connection, partitions, offset);
    match initializer {
        OffsetsInitializer::Earliest => complete(partitions, &list(Offset::Beginning)?),
        OffsetsInitializer::Latest => complete(partitions, &list(Offset::End)?),
        OffsetsInitializer::Timestamp(timestamp) => {
            let found = list(Offset::Offset(*timestamp))?;
            complete(partitions, &or_else(found, || list(Offset::End))?)
        }
        OffsetsInitializer::Committed(reset) => {
            let committed = committed(consumer, connection, partitions)?;
            let found = match reset {
                OffsetReset::Earliest => or_else(committed, || list(Offset::Beginning))?,
                OffsetReset::Latest => or_else(committed, || list(Offset::End))?,
                OffsetReset::None => committed,
            };
            complete(partitions, &found)
        }
        OffsetsInitializer::Offsets(given) => {
            let name = |partition: &TopicPartition| (partition.topic.to_string(), partition.partition);
            let found = partitions
                .iter()
                .map(|partition| given.get(&name(partition)).copied())
                .collect();
            let found = or_else(found, || committed(consumer, connection, partitions))?;
            complete(partitions, &or_else(found, || list(Offset::Beginning))?)
        }
    }
}

type Found = Vec<Option<i64>>;

/// Fills what is missing in `found` from another answer, which is asked for only then.
fn or_else(found: Found, other: impl FnOnce() -> Result<Found, Abort>) -> Result<Found, Abort> {
    if found.iter().all(Option::is_some) {
        return Ok(found);
    }
    Ok(found
        .into_iter()
        .zip(other()?)
        .map(|(found, other)| found.or(other))
        .collect())
}

fn complete(partitions: &[TopicPartition], found: &[Option<i64>]) -> Result<Vec<i64>, Abort> {
    let offset = |(partition, found): (&TopicPartition, &Option<i64>)| {
        found.ok_or_else(|| {
            Abort::Failed(ConnectorError::Refused(format!(
                "Kafka topic {:?} partition {}: the group has no committed offset; commit one, or allow \
                 OffsetReset::Earliest or Latest",
                &*partition.topic, partition.partition
            )))
        })
    };
    partitions.iter().zip(found).map(offset).collect()
}

fn list_of(partitions: &[TopicPartition], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(&partition.topic, partition.partition, offset)?;
    }
    Ok(list)
}

/// Offsets by time; [`Offset::Beginning`] and [`Offset::End`] are the protocol's special times.
fn list_offsets(
    consumer: &SourceConsumer,
    connection: &Connection<'_>,
    partitions: &[TopicPartition],
    time: Offset,
) -> Result<Found, Abort> {
    let ask = |patience: Duration| consumer.offsets_for_times(list_of(partitions, time)?, patience);
    connection.ask(|patience| read(connection, partitions, ask(patience)))
}

fn committed(
    consumer: &SourceConsumer,
    connection: &Connection<'_>,
    partitions: &[TopicPartition],
) -> Result<Found, Abort> {
    let ask =
        |patience: Duration| consumer.committed_offsets(list_of(partitions, Offset::Invalid)?, patience);
    connection.ask(|patience| read(connection, partitions, ask(patience)))
}

fn read(
    connection: &Connection<'_>,
    partitions: &[TopicPartition],
    answer: KafkaResult<TopicPartitionList>,
) -> Result<Found, AttemptError> {
    let failed = |what: &str, error: KafkaError| match error.rdkafka_error_code() {
        Some(code) => attempt_error(what, connection.servers, code),
        None => AttemptError::Again(error.to_string()),
    };
    let answer = answer.map_err(|error| failed("offsets", error))?;
    let of_partition = |partition: &TopicPartition| {
        let what = format!("topic {:?}", &*partition.topic);
        let Some(element) = answer.find_partition(&partition.topic, partition.partition) else {
            return Err(AttemptError::Again(format!(
                "no answer for {what} partition {}",
                partition.partition
            )));
        };
        element.error().map_err(|error| failed(&what, error))?;
        Ok(match element.offset() {
            Offset::Offset(offset) if offset >= 0 => Some(offset),
            _ => None,
        })
    };
    partitions.iter().map(of_partition).collect()
}
