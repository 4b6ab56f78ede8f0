//! Reaching the brokers: events of a client, and questions that are asked again until a deadline.
//!
//! librdkafka reconnects for ever and reports what goes wrong beside the calls. [`Connection`] turns that into one error: a
//! missing topic or a refused login can't pass by itself; brokers that don't answer in time may come back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::ConnectorError;

/// How long one question may take before it is asked again.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a topic may be unknown: a fresh one takes a moment to reach every broker.
pub(crate) const TOPIC_GRACE: Duration = Duration::from_secs(3);

/// The consumer that the source uses.
pub(crate) type SourceConsumer = BaseConsumer<ConsumerEvents>;

/// The last thing that a client complained about.
#[derive(Debug, Default)]
pub(crate) struct LastError(Mutex<Option<String>>);

impl LastError {
    pub(crate) fn set(&self, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a consumer reports beside its calls.
#[derive(Debug, Default)]
pub(crate) struct ConsumerEvents {
    pub(crate) last_error: LastError,
    pub(crate) commits_succeeded: AtomicU64,
    pub(crate) commits_failed: AtomicU64,
}

impl ClientContext for ConsumerEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if !matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(%error, reason, "Kafka consumer");
            self.last_error.set(reason);
        }
    }
}

impl ConsumerContext for ConsumerEvents {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) => self.commits_succeeded.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(%error, "Kafka offsets were not committed");
                self.commits_failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// librdkafka's log lines at their own level.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => {
            tracing::warn!(facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
            tracing::info!(facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

/// Why one attempt failed.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The topic isn't known (yet).
    TopicMissing(String),
    /// Asking again may help.
    Again(String),
    /// It won't.
    Final(ConnectorError),
}

/// Why asking ended.
#[derive(Debug)]
pub(crate) enum Abort {
    /// The task is gone.
    Cancelled,
    /// With this error.
    Failed(ConnectorError),
}

impl From<ConnectorError> for Abort {
    fn from(error: ConnectorError) -> Self {
        Self::Failed(error)
    }
}

/// Whether this error can't pass by itself.
pub(crate) fn is_final(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::UnsupportedSASLMechanism
            | Code::SSL
            | Code::InvalidTopic
            | Code::InvalidGroupId
    )
}

/// An attempt's failure by its code; `what` names the object, as `topic "in"`.
pub(crate) fn attempt_error(what: &str, servers: &str, code: RDKafkaErrorCode) -> AttemptError {
    match code {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            AttemptError::TopicMissing(what.to_owned())
        }
        code if is_final(code) => AttemptError::Final(ConnectorError::Refused(format!(
            "Kafka brokers {servers} refuse {what}: {code}"
        ))),
        code => AttemptError::Again(code.to_string()),
    }
}

pub(crate) fn missing(what: &str, servers: &str) -> ConnectorError {
    ConnectorError::Refused(format!(
        "Kafka {what} doesn't exist on brokers {servers}: create it or correct its name"
    ))
}

/// Questions to the brokers, asked again until a deadline.
pub(crate) struct Connection<'a> {
    /// As the user gave them.
    pub(crate) servers: &'a str,
    /// How long the brokers may be away.
    pub(crate) timeout: Duration,
    /// Waits this long at most, and says whether nobody wants the answer any more.
    pub(crate) cancelled: &'a dyn Fn(Duration) -> bool,
    /// Serves the client's events and gives its last complaint.
    pub(crate) complaint: &'a dyn Fn() -> Option<String>,
}

impl Connection<'_> {
    /// Asks until there is an answer, a final error, or no time left.
    pub(crate) fn ask<T>(
        &self,
        mut attempt: impl FnMut(Duration) -> Result<T, AttemptError>,
    ) -> Result<T, Abort> {
        let start = Instant::now();
        let deadline = start + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let reason = match attempt(left.clamp(PAUSE, ATTEMPT)) {
                Ok(answer) => return Ok(answer),
                Err(AttemptError::Final(error)) => return Err(error.into()),
                Err(AttemptError::TopicMissing(what)) if start.elapsed() >= TOPIC_GRACE.min(self.timeout) => {
                    return Err(missing(&what, self.servers).into());
                }
                Err(AttemptError::TopicMissing(what)) => format!("{what} is unknown"),
                Err(AttemptError::Again(reason)) => reason,
            };
            let complaint = (self.complaint)();
            if Instant::now() >= deadline {
                let reason = complaint.unwrap_or(reason);
                return Err(unreachable_brokers(self.servers, self.timeout, &reason).into());
            }
            if (self.cancelled)(PAUSE) {
                return Err(Abort::Cancelled);
            }
        }
    }

    /// The partitions of a topic.
    pub(crate) fn partitions<C: ClientContext>(
        &self,
        client: &Client<C>,
        topic: &str,
    ) -> Result<Vec<i32>, Abort> {
        self.ask(|patience| partitions_of(client, self.servers, topic, patience))
    }
}

pub(crate) fn unreachable_brokers(servers: &str, timeout: Duration, reason: &str) -> ConnectorError {
    ConnectorError::Unavailable(format!(
        "Kafka brokers {servers} didn't answer within {timeout:?}: {reason}"
    ))
}

/// The partitions of a topic, asked once.
fn partitions_of<C: ClientContext>(
    client: &Client<C>,
    servers: &str,
    topic: &str,
    patience: Duration,
) -> Result<Vec<i32>, AttemptError> {
    let what = format!("topic {topic:?}");
    let failed = |code| attempt_error(&what, servers, code);
    let metadata =
        client
            .fetch_metadata(Some(topic), patience)
            .map_err(|error| match error.rdkafka_error_code() {
                Some(code) => failed(code),
                None => AttemptError::Again(error.to_string()),
            })?;
    let topic = metadata
        .topics()
        .first()
        .ok_or_else(|| AttemptError::TopicMissing(what.clone()))?;
    match topic.error().map(RDKafkaErrorCode::from) {
        Some(code) => Err(failed(code)),
        None if topic.partitions().is_empty() => Err(AttemptError::TopicMissing(what)),
        None => Ok(topic
            .partitions()
            .iter()
            .map(|partition| partition.id())
            .collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection<'a>(timeout: Duration, cancelled: &'a dyn Fn(Duration) -> bool) -> Connection<'a> {
        Connection {
            servers: "a:9092",
            timeout,
            cancelled,
            complaint: &|| None,
        }
    }

    fn failure<T: std::fmt::Debug>(result: Result<T, Abort>) -> ConnectorError {
        match result {
            Err(Abort::Failed(error)) => error,
            other => panic!("no failure: {other:?}"),
        }
    }

    #[test]
    fn a_question_is_asked_again_until_it_is_answered() {
        let mut left = 3;
        let answer = connection(Duration::from_secs(60), &|_| false).ask(|_| {
            left -= 1;
            if left == 0 {
                Ok(7)
            } else {
                Err(AttemptError::Again("away".to_owned()))
            }
        });
        assert_eq!(answer.unwrap(), 7);
    }

    #[test]
    fn brokers_that_do_not_answer_in_time_are_unavailable_and_named() {
        let asked = connection(Duration::ZERO, &|_| false)
            .ask(|_| Err::<(), _>(AttemptError::Again("down".to_owned())));
        let error = failure(asked);
        assert!(matches!(error, ConnectorError::Unavailable(_)));
        assert_eq!(
            error.to_string(),
            "Kafka brokers a:9092 didn't answer within 0ns: down"
        );
    }

    #[test]
    fn a_topic_that_stays_unknown_is_refused_by_name() {
        let missing = || {
            attempt_error(
                "topic \"in\"",
                "a:9092",
                RDKafkaErrorCode::UnknownTopicOrPartition,
            )
        };
        let error = failure(connection(Duration::ZERO, &|_| false).ask(|_| Err::<(), _>(missing())));
        assert!(matches!(error, ConnectorError::Refused(_)));
        assert_eq!(
            error.to_string(),
            "Kafka topic \"in\" doesn't exist on brokers a:9092: create it or correct its name"
        );
    }

    #[test]
    fn a_refused_login_is_not_tried_again() {
        let denied = || {
            attempt_error(
                "topic \"in\"",
                "a:9092",
                RDKafkaErrorCode::TopicAuthorizationFailed,
            )
        };
        let error = failure(connection(Duration::from_secs(60), &|_| true).ask(|_| Err::<(), _>(denied())));
        assert!(
            error
                .to_string()
                .starts_with("Kafka brokers a:9092 refuse topic \"in\""),
            "{error}"
        );
    }

    #[test]
    fn nobody_waits_for_a_reader_that_is_gone() {
        let asked = connection(Duration::from_secs(60), &|_| true)
            .ask(|_| Err::<(), _>(AttemptError::Again(String::new())));
        assert!(matches!(asked, Err(Abort::Cancelled)));
    }
}
