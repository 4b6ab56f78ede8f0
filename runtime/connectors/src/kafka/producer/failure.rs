//! Why a writer ends, in one line: topic, partition, reason, and what to do.

use kafka_protocol::ResponseError;

use super::accumulator::Refusal;
use super::record_batch::Lengths;
use super::sender::SendFailure;
use super::transaction::Transaction;
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
        SendFailure::IdentityLost {
            partition,
            reason: reason @ (ResponseError::OutOfOrderSequenceNumber | ResponseError::UnknownProducerId),
        } if settings.transactions.is_some() => forgotten(settings, *partition, *reason),
        SendFailure::IdentityLost { reason, .. } if settings.transactions.is_some() => {
            fenced(settings, None, *reason)
        }
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

/// A transaction is not this writer's any more.
pub(crate) fn fenced(settings: &SinkSettings, id: Option<&str>, reason: ResponseError) -> ConnectorError {
    let what = id.map_or_else(
        || "the open transaction".to_owned(),
        |id| format!("transaction {id:?}"),
    );
    let (prefix, timeout) = prefix_and_timeout(settings);
    ConnectorError::Unavailable(format!(
        "{}: {what} was taken from this writer ({reason}): another job or sink uses the same `transactional_id_prefix` ({prefix:?}): give \
         each sink its own; or a newer attempt of this job has begun, which needs nothing done; or the transaction was open for \
         longer than `transaction.timeout.ms` ({timeout}): raise it above the longest time between two checkpoints",
        place(settings, None)
    ))
}

fn prefix_and_timeout(settings: &SinkSettings) -> (&str, i32) {
    let transactions = settings.transactions.as_ref();
    transactions.map_or(("", 0), |transactions| {
        (transactions.prefix.as_str(), transactions.timeout_ms)
    })
}

/// A broker has lost what an open transaction wrote.
fn forgotten(settings: &SinkSettings, partition: usize, reason: ResponseError) -> ConnectorError {
    ConnectorError::Unavailable(format!(
        "{}: the partition doesn't hold any more what the open transaction has written ({reason}): was the topic made anew?",
        place(settings, Some(partition))
    ))
}

/// What a user can do about records that are lost.
const WAYS_ON: &str = "Restore an older checkpoint or savepoint to write these records again, or go on without them by the sink's \
                       `on_expired_transaction(ExpiredTransaction::Skip)`.";

/// The brokers have aborted what a checkpoint holds.
pub(crate) fn aborted(
    settings: &SinkSettings,
    prepared: &Transaction,
    reason: ResponseError,
) -> ConnectorError {
    let (prefix, timeout) = prefix_and_timeout(settings);
    ConnectorError::Refused(format!(
        "Kafka {}: the brokers have aborted transaction {:?} (open since {} ms after 1970), which a checkpoint holds to be committed ({reason}): \
         these records are lost to readers of committed records. It was not committed within `transaction.timeout.ms` ({timeout}), or another \
         job with the same `transactional_id_prefix` ({prefix:?}) aborted it. {WAYS_ON} Raise the timeout above the longest time that the job \
         may be down",
        prepared.data(),
        prepared.id,
        prepared.started_ms
    ))
}

/// Nobody can tell what became of what a checkpoint holds.
pub(crate) fn unclear(
    settings: &SinkSettings,
    prepared: &Transaction,
    reason: ResponseError,
    why: &str,
) -> ConnectorError {
    ConnectorError::Refused(format!(
        "Kafka {}: brokers {} can't tell whether transaction {:?}, which a checkpoint holds to be committed, was committed ({reason}): {why}; \
         was the topic made anew or compacted? {WAYS_ON}",
        prepared.data(),
        settings.servers,
        prepared.id
    ))
}

/// Longer than the brokers allow.
pub(crate) fn timeout_too_long(
    settings: &SinkSettings,
    timeout_ms: i32,
    most_ms: Option<&str>,
) -> ConnectorError {
    ConnectorError::Refused(format!(
        "Kafka brokers {} refuse the sink's property `transaction.timeout.ms` ({timeout_ms}): their `transaction.max.timeout.ms` is {}; lower \
         the first or raise the second",
        settings.servers,
        most_ms.unwrap_or("smaller")
    ))
}

/// The brokers can't do transactions.
pub(crate) fn without_transactions(settings: &SinkSettings, address: &str) -> ConnectorError {
    ConnectorError::Refused(format!(
        "Kafka topic {:?}: broker {address} is too old for DeliveryGuarantee::ExactlyOnce, Kafka 3.0 or newer is needed; or use AtLeastOnce",
        settings.topic
    ))
}

/// A right is missing, or the request makes no sense to the broker.
pub(crate) fn transaction_refused(
    settings: &SinkSettings,
    id: &str,
    reason: ResponseError,
) -> ConnectorError {
    let rights = match reason {
        ResponseError::TransactionalIdAuthorizationFailed => format!(
            ": allow the job WRITE and DESCRIBE on transactional ids that begin with {:?}",
            prefix_and_timeout(settings).0
        ),
        ResponseError::TopicAuthorizationFailed => ": allow the job WRITE on the topic".to_owned(),
        _ => String::new(),
    };
    ConnectorError::Refused(format!(
        "Kafka topic {:?}: brokers {} refuse transaction {id:?}: {reason}{rights}",
        settings.topic, settings.servers
    ))
}

/// Another writer may be at work under the id by now.
pub(crate) fn too_late(settings: &SinkSettings, id: &str, reason: &str) -> ConnectorError {
    ConnectorError::Unavailable(format!(
        "Kafka topic {:?}: transaction {id:?} was not got from brokers {} within {:?} of the start: {reason}; a newer attempt of this job may \
         have begun by now, from which it must not be taken",
        settings.topic, settings.servers, settings.connect_timeout
    ))
}

/// No answer in time.
pub(crate) fn transaction_unanswered(settings: &SinkSettings, id: &str, reason: &str) -> ConnectorError {
    ConnectorError::Unavailable(format!(
        "Kafka topic {:?}: brokers {} didn't answer about transaction {id:?} within `delivery.timeout.ms` ({}): {reason}",
        settings.topic,
        settings.servers,
        settings.producer.send.delivery_timeout.as_millis()
    ))
}
