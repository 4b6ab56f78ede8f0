//! The producer's properties, by the Java client's names and with its defaults but for `batch.size`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use super::accumulator::Limits;
use super::compression::Compression;
use super::record_batch::HEADER_BYTES;
use crate::ConnectorError;

/// Larger than the Java client's 16 KiB: a batch costs nothing before its rows come, and fewer are cheaper for all.
const BATCH_BYTES: usize = 128 << 10;
/// As the Java client: a broker recognizes no more batches than these when they are repeated.
const MAX_IN_FLIGHT_IDEMPOTENT: usize = 5;
/// What brokers allow at most by default (`transaction.max.timeout.ms`). Flink takes an hour, which these refuse; the Java client a
/// minute, within which a job that failed is not always back.
const TRANSACTION_TIMEOUT_MS: u64 = 900_000;
/// A name at least so alike is offered.
const NEAR: f64 = 0.6;

/// Names that are taken.
const KNOWN: [&str; 19] = [
    "acks",
    "batch.size",
    "buffer.memory",
    "client.id",
    "compression.type",
    "delivery.timeout.ms",
    "enable.idempotence",
    "linger.ms",
    "max.in.flight.requests.per.connection",
    "max.request.size",
    "metadata.max.age.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.ms",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "transaction.timeout.ms",
];

/// Names of the Java client that mean nothing here.
const JAVA_ONLY: [&str; 16] = [
    "client.dns.lookup",
    "client.id.prefix",
    "connections.max.idle.ms",
    "enable.metrics.push",
    "interceptor.classes",
    "key.serializer",
    "max.block.ms",
    "metadata.max.idle.ms",
    "metric.reporters",
    "partitioner.class",
    "receive.buffer.bytes",
    "register.producer.metrics",
    "retry.backoff.max.ms",
    "send.buffer.bytes",
    "value.serializer",
    "socket.connection.setup.timeout.max.ms",
];

/// Whose acknowledgement is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    None,
    Leader,
    All,
}

impl Acks {
    /// As a request says it.
    pub(crate) fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// What the sender goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SendRules {
    pub(crate) idempotent: bool,
    pub(crate) max_in_flight: usize,
    pub(crate) max_request_bytes: usize,
    pub(crate) retries: u32,
    pub(crate) retry_backoff: Duration,
    pub(crate) delivery_timeout: Duration,
}

/// What connections go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkRules {
    pub(crate) client_id: String,
    /// That may wait in a connection: those in flight, and the few questions beside them.
    pub(crate) requests: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect_backoff: Duration,
    pub(crate) reconnect_backoff_max: Duration,
    pub(crate) metadata_max_age: Duration,
}

/// All of a producer's properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerConfig {
    pub(crate) acks: Acks,
    pub(crate) limits: Limits,
    pub(crate) send: SendRules,
    pub(crate) network: NetworkRules,
    /// How long a transaction may be open.
    pub(crate) transaction_timeout_ms: i32,
}

impl ProducerConfig {
    /// Reads the user's properties; [`ConnectorError::Refused`] names the first that is unknown, malformed or not possible.
    pub(crate) fn from_properties(properties: &BTreeMap<String, String>) -> Result<Self, ConnectorError> {
        for (key, value) in properties {
            check_name(key, value)?;
        }
        let read = Reader(properties);
        let acks = read.acks()?;
        let max_in_flight = read.number("max.in.flight.requests.per.connection", 5, 1..=1_000)? as usize;
        let max_request_bytes = read.number("max.request.size", 1 << 20, 100..=1 << 30)? as usize;
        let batch_bytes = read.number("batch.size", BATCH_BYTES as u64, 0..=1 << 30)? as usize;
        let network = NetworkRules {
            requests: max_in_flight + 8,
            client_id: read.get("client.id").unwrap_or("thalweg").to_owned(),
            request_timeout: read.millis("request.timeout.ms", 30_000)?,
            connect_timeout: read.millis("socket.connection.setup.timeout.ms", 10_000)?,
            reconnect_backoff: read.millis("reconnect.backoff.ms", 50)?,
            reconnect_backoff_max: read.millis("reconnect.backoff.max.ms", 1_000)?,
            metadata_max_age: read.millis("metadata.max.age.ms", 300_000)?,
        };
        Ok(Self {
            acks,
            limits: Limits {
                batch_bytes: batch_bytes.clamp(HEADER_BYTES, max_request_bytes),
                record_bytes: max_request_bytes,
                total_bytes: read.number("buffer.memory", 32 << 20, 1..=1 << 40)? as usize,
                linger: read.millis("linger.ms", 5)?,
                compression: read.compression()?,
            },
            send: SendRules {
                idempotent: read.idempotent(acks, max_in_flight)?,
                max_in_flight,
                max_request_bytes,
                retries: read.number("retries", i32::MAX as u64, 0..=i32::MAX as u64)? as u32,
                retry_backoff: read.millis("retry.backoff.ms", 100)?,
                delivery_timeout: read.millis("delivery.timeout.ms", 120_000)?,
            },
            network,
            transaction_timeout_ms: read.number(
                "transaction.timeout.ms",
                TRANSACTION_TIMEOUT_MS,
                1..=i32::MAX as u64,
            )? as i32,
        })
    }
}

fn refused(key: &str, value: &str, why: &str) -> ConnectorError {
    ConnectorError::Refused(format!("Kafka property {key:?} = {value:?} is refused: {why}"))
}

fn managed(key: &str, option: &str) -> ConnectorError {
    ConnectorError::Refused(format!(
        "Kafka property {key:?} is set by the connector: use its option `{option}`"
    ))
}

fn check_name(key: &str, value: &str) -> Result<(), ConnectorError> {
    match key {
        "bootstrap.servers" => Err(managed(key, "bootstrap_servers")),
        "transactional.id" => Err(managed(key, "transactional_id_prefix")),
        "security.protocol" if !value.trim().eq_ignore_ascii_case("plaintext") => Err(refused(
            key,
            value,
            "the sink speaks PLAINTEXT only, TLS and SASL are not there yet",
        )),
        _ if KNOWN.contains(&key) => Ok(()),
        _ if JAVA_ONLY.contains(&key) => {
            tracing::info!(
                property = key,
                "Kafka property has no meaning here and is left out"
            );
            Ok(())
        }
        _ if key.starts_with("sasl.") || key.starts_with("ssl.") => Err(refused(
            key,
            value,
            "the sink speaks PLAINTEXT only, TLS and SASL are not there yet",
        )),
        _ => Err(refused(key, value, &unknown(key))),
    }
}

fn unknown(key: &str) -> String {
    let nearest = KNOWN
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(key, known), known))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|(left, _), (right, _)| left.total_cmp(right));
    match nearest {
        Some((_, known)) => format!("a producer has no such property; did you mean {known:?}?"),
        None => format!("a producer has no such property; it has {}", KNOWN.join(", ")),
    }
}

/// The user's properties, read with a default.
struct Reader<'a>(&'a BTreeMap<String, String>);

impl<'a> Reader<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(|value| value.trim())
    }

    fn parse<T: FromStr>(&self, key: &str, what: &str) -> Result<Option<T>, ConnectorError> {
        self.get(key)
            .map(|value| value.parse().map_err(|_| refused(key, value, what)))
            .transpose()
    }

    fn number(
        &self,
        key: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConnectorError> {
        let what = format!("a number from {} to {} is needed", range.start(), range.end());
        let number = self.parse(key, &what)?.unwrap_or(default);
        if range.contains(&number) {
            return Ok(number);
        }
        Err(refused(key, self.get(key).unwrap_or_default(), &what))
    }

    fn millis(&self, key: &str, default: u64) -> Result<Duration, ConnectorError> {
        self.number(key, default, 0..=i32::MAX as u64)
            .map(Duration::from_millis)
    }

    fn acks(&self) -> Result<Acks, ConnectorError> {
        match self.get("acks") {
            None | Some("all" | "-1") => Ok(Acks::All),
            Some("1") => Ok(Acks::Leader),
            Some("0") => Ok(Acks::None),
            Some(other) => Err(refused("acks", other, "all, 1 or 0 is needed")),
        }
    }

    fn compression(&self) -> Result<Compression, ConnectorError> {
        let name = self.get("compression.type").unwrap_or("none");
        Compression::named(name).ok_or_else(|| {
            refused(
                "compression.type",
                name,
                &format!("one of {} is needed", Compression::NAMES),
            )
        })
    }

    /// As the Java client: on unless other properties forbid it, and an error if both are wanted.
    fn idempotent(&self, acks: Acks, max_in_flight: usize) -> Result<bool, ConnectorError> {
        let key = "enable.idempotence";
        let wanted = self.parse::<bool>(key, "true or false is needed")?;
        let why = if acks != Acks::All {
            "needs acks=all"
        } else if max_in_flight > MAX_IN_FLIGHT_IDEMPOTENT {
            "needs max.in.flight.requests.per.connection of 5 at most"
        } else if self.get("retries") == Some("0") {
            "needs retries above 0"
        } else {
            return Ok(wanted.unwrap_or(true));
        };
        match wanted {
            Some(true) => Err(refused(key, "true", why)),
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(properties: &[(&str, &str)]) -> Result<ProducerConfig, ConnectorError> {
        let properties = properties
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ProducerConfig::from_properties(&properties.collect())
    }

    fn refusal(key: &str, value: &str) -> String {
        read(&[(key, value)]).unwrap_err().to_string()
    }

    #[test]
    fn without_properties_it_is_the_java_clients_idempotent_producer_with_all_acks() {
        let config = read(&[]).unwrap();
        assert_eq!((config.acks, config.send.idempotent), (Acks::All, true));
        assert_eq!(
            (config.send.max_in_flight, config.limits.total_bytes),
            (5, 32 << 20)
        );
        assert_eq!(config.limits.linger, Duration::from_millis(5));
        assert_eq!(config.limits.compression, Compression::None);
    }

    #[test]
    fn an_unknown_property_is_refused_with_the_nearest_name() {
        assert_eq!(
            refusal("lingr.ms", "1"),
            "Kafka property \"lingr.ms\" = \"1\" is refused: a producer has no such property; did you mean \"linger.ms\"?"
        );
        assert!(refusal("fetch.min.bytes", "1").contains("it has acks, batch.size, "));
    }

    #[test]
    fn values_that_are_malformed_or_out_of_range_are_refused_by_name() {
        assert_eq!(
            refusal("linger.ms", "soon"),
            "Kafka property \"linger.ms\" = \"soon\" is refused: a number from 0 to 2147483647 is needed"
        );
        assert!(refusal("acks", "2").ends_with("all, 1 or 0 is needed"));
        assert!(
            refusal("compression.type", "rar").ends_with("one of none, gzip, snappy, lz4, zstd is needed")
        );
        assert!(refusal("max.request.size", "0").contains("a number from 100 to"));
    }

    #[test]
    fn what_the_connector_sets_or_can_not_do_is_refused_clearly() {
        assert_eq!(
            refusal("transactional.id", "t"),
            "Kafka property \"transactional.id\" is set by the connector: use its option `transactional_id_prefix`"
        );
        for (key, value) in [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "PLAIN")] {
            assert!(refusal(key, value).ends_with("PLAINTEXT only, TLS and SASL are not there yet"));
        }
        read(&[("security.protocol", "PLAINTEXT"), ("key.serializer", "x.Y")]).unwrap();
    }

    #[test]
    fn idempotence_is_off_where_it_can_not_be_and_refused_if_it_was_asked_for() {
        assert!(!read(&[("acks", "1")]).unwrap().send.idempotent);
        assert!(!read(&[("enable.idempotence", "false")]).unwrap().send.idempotent);
        let error = read(&[("acks", "0"), ("enable.idempotence", "true")]).unwrap_err();
        assert!(error.to_string().ends_with("needs acks=all"), "{error}");
        let error = read(&[
            ("max.in.flight.requests.per.connection", "6"),
            ("enable.idempotence", "true"),
        ]);
        assert!(error.unwrap_err().to_string().ends_with("of 5 at most"));
    }
}
