//! Why a writer ends, in one line: topic, partition, reason, and what to do.

use kafka_protocol::ResponseError;

use super::accumulator::Refusal;
use super::record_batch::Lengths;
use super::sender::SendFailure;
use crate::ConnectorError;
use crate::kafka::sink::SinkSettings;

fn place(settings: &SinkSettings, partition: Option<usize>) -> String {
    match partition {
        Some(partition) => format!("Kafka topic {:?} partition {partition}", settings.topic),
        None => format!("Kafka topic {:?}", settings.topic),
    }
}

/// A batch's failure; `complaint` is the last thing that went wrong with the brokers.
pub(crate) fn send_error(
    settings: &SinkSettings,
    failure: &SendFailure,
    complaint: Option<&str>,
) -> ConnectorError {
    let servers = &settings.servers;
    let place = |partition: &usize| place(settings, Some(*partition));
    match failure {
        SendFailure::TooLarge {
            partition,
            records: 1,
            last,
            ..
        } => too_large(settings, Some(*partition), *last),
        SendFailure::TooLarge {
            partition,
            records,
            bytes,
            ..
        } => ConnectorError::Refused(format!(
            "{}: a batch of {records} records, {bytes} bytes, is larger than allowed: raise the topic's `max.message.bytes` \
             (the broker's `message.max.bytes`) or lower the sink's property `batch.size` ({} here)",
            place(partition),
            settings.producer.limits.batch_bytes
        )),
        SendFailure::TimedOut { partition } => ConnectorError::Unavailable(format!(
            "{}: a record was not acknowledged by brokers {servers} within `delivery.timeout.ms` ({}): {}",
            place(partition),
            settings.producer.send.delivery_timeout.as_millis(),
            complaint.unwrap_or("no answer")
        )),
        SendFailure::RetriesExhausted { partition, reason } => ConnectorError::Unavailable(format!(
            "{}: a batch was not written by brokers {servers} after `retries` ({}): {reason}",
            place(partition),
            settings.producer.send.retries
        )),
        SendFailure::IdentityLost { partition, reason } => ConnectorError::Unavailable(format!(
            "{}: brokers {servers} don't know any more what this producer has written ({reason}): the job has to write it again",
            place(partition)
        )),
        SendFailure::Refused { partition, reason } => ConnectorError::Refused(format!(
            "{}: brokers {servers} refuse records: {reason}",
            place(partition)
        )),
    }
}

/// A row that the accumulator doesn't take; not for [`Refusal::Full`], which passes.
pub(crate) fn row_error(settings: &SinkSettings, refusal: &Refusal) -> ConnectorError {
    match refusal {
        Refusal::TooLarge(lengths) => too_large(settings, None, *lengths),
        Refusal::Compression(error) => {
            ConnectorError::Unavailable(format!("{}: {error}", place(settings, None)))
        }
        Refusal::Full => {
            ConnectorError::Unavailable(format!("{}: the buffer is full", place(settings, None)))
        }
    }
}

fn too_large(settings: &SinkSettings, partition: Option<usize>, (key, value): Lengths) -> ConnectorError {
    ConnectorError::Refused(format!(
        "{}: a record of {} bytes (key {key}, value {value}) is larger than allowed: raise the topic's `max.message.bytes` \
         (the broker's `message.max.bytes`) and the sink's property `max.request.size` ({} here)",
        place(settings, partition),
        key + value,
        settings.producer.send.max_request_bytes
    ))
}

/// The topic can't be written to.
pub(crate) fn topic_error(settings: &SinkSettings, code: ResponseError) -> ConnectorError {
    ConnectorError::Refused(format!(
        "Kafka brokers {} refuse topic {:?}: {code}",
        settings.servers, settings.topic
    ))
}

/// The brokers don't take an idempotent producer.
pub(crate) fn identity_error(settings: &SinkSettings, reason: &str) -> ConnectorError {
    ConnectorError::Refused(format!(
        "Kafka brokers {} refuse an idempotent producer: {reason}; allow it, or set the sink's property `enable.idempotence` to false",
        settings.servers
    ))
}
