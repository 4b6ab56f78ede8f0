//! The source's client properties: Kafka's Java names and librdkafka's, defaults, and what is refused.
//!
//! Flink's users write the Java client's properties. Most have the same name here; the few that differ are translated, those
//! that only mean something in Java are left out with one log line, and an unknown one is refused by name.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::ConnectorError;

/// What becomes of a property.
#[derive(Debug, PartialEq, Eq)]
enum Translation {
    /// It is librdkafka's, with this name and value.
    Native(String, String),
    /// It means nothing outside Java.
    JavaOnly,
    /// The connector sets it itself.
    Managed(&'static str),
}

fn translate(key: &str, value: &str) -> Translation {
    let native = |name: &str| Translation::Native(name.to_owned(), value.to_owned());
    match key {
        "fetch.max.wait.ms" => native("fetch.wait.max.ms"),
        "receive.buffer.bytes" => native("socket.receive.buffer.bytes"),
        "key.deserializer"
        | "value.deserializer"
        | "max.poll.records"
        | "register.consumer.metrics"
        | "client.id.prefix"
        | "commit.offsets.on.checkpoint"
        | "default.api.timeout.ms" => Translation::JavaOnly,
        "bootstrap.servers" => Translation::Managed("bootstrap_servers"),
        "group.id" => Translation::Managed("group_id"),
        "auto.offset.reset" => Translation::Managed("starting_offsets"),
        "enable.partition.eof" => Translation::Managed("bounded"),
        "enable.auto.offset.store" => Translation::Managed("group_id"),
        _ => native(key),
    }
}

/// A client's configuration: `defaults`, over them the user's properties, over them what the connector needs.
pub(crate) fn client_config(
    servers: &str,
    defaults: &[(&str, &str)],
    properties: &BTreeMap<String, String>,
    required: &[(&str, &str)],
) -> Result<ClientConfig, ConnectorError> {
    let mut config = ClientConfig::new();
    for (key, value) in defaults {
        config.set(*key, *value);
    }
    for (key, value) in properties {
        match translate(key, value) {
            Translation::Native(name, value) => config.set(name, value),
            Translation::JavaOnly => {
                tracing::info!(
                    property = key,
                    "Kafka property has no meaning here and is left out"
                );
                continue;
            }
            Translation::Managed(option) => {
                return Err(ConnectorError::Refused(format!(
                    "Kafka property {key:?} is set by the connector: use its option `{option}`"
                )));
            }
        };
    }
    config.set("bootstrap.servers", servers);
    for (key, value) in required {
        config.set(*key, *value);
    }
    config
        .create_native_config()
        .map_err(|error| refused_property(&error))?;
    Ok(config)
}

fn refused_property(error: &KafkaError) -> ConnectorError {
    ConnectorError::Refused(match error {
        KafkaError::ClientConfig(_, description, key, value) => {
            format!(
                "Kafka property {key:?} = {value:?} is refused: {}",
                description.trim()
            )
        }
        other => format!("the Kafka client's properties are refused: {other}"),
    })
}

/// Where Kafka listens if no port is given.
const PORT: u16 = 9092;

/// The servers' hosts and ports; refuses the first that can't be one.
pub(crate) fn addresses(servers: &str) -> Result<Vec<(String, u16)>, ConnectorError> {
    let refuse = |address: &str| {
        ConnectorError::Refused(format!(
            "bootstrap servers {servers:?}: {address:?} is not host:port; give them as \"broker-1:9092,broker-2:9092\""
        ))
    };
    let parse = |address: &str| {
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (address, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| (host.to_owned(), port))
    };
    servers
        .split(',')
        .map(str::trim)
        .map(|address| parse(address).ok_or_else(|| refuse(address)))
        .collect()
}

/// A topic's name as brokers allow it.
pub(crate) fn check_topic(topic: &str) -> Result<(), ConnectorError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if topic.is_empty() || topic.len() > 249 || matches!(topic, "." | "..") || !topic.bytes().all(allowed) {
        return Err(ConnectorError::Refused(format!(
            "{topic:?} is not a topic's name: 1 to 249 letters, digits, '.', '_' and '-' are"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(key: &str, value: &str) -> Result<ClientConfig, ConnectorError> {
        let properties = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        client_config("a:9092", &[("fetch.min.bytes", "5")], &properties, &[])
    }

    #[test]
    fn javas_names_become_librdkafkas() {
        let config = config_of("fetch.max.wait.ms", "200").unwrap();
        assert_eq!(config.get("fetch.wait.max.ms"), Some("200"));
        assert_eq!(
            config_of("key.deserializer", "x.Y")
                .unwrap()
                .get("key.deserializer"),
            None
        );
    }

    #[test]
    fn a_users_property_wins_over_a_default() {
        assert_eq!(
            config_of("fetch.min.bytes", "50").unwrap().get("fetch.min.bytes"),
            Some("50")
        );
    }

    #[test]
    fn an_unknown_property_and_a_malformed_value_are_refused_by_name() {
        let error = config_of("fetch.min.byte", "1").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "Kafka property \"fetch.min.byte\" = \"1\" is refused: No such configuration property"
            ),
            "{error}"
        );
        let error = config_of("fetch.min.bytes", "few").unwrap_err().to_string();
        assert!(
            error.starts_with("Kafka property \"fetch.min.bytes\" = \"few\" is refused: "),
            "{error}"
        );
    }

    #[test]
    fn a_property_that_an_option_sets_is_refused_with_the_options_name() {
        let error = config_of("group.id", "g").unwrap_err().to_string();
        assert_eq!(
            error,
            "Kafka property \"group.id\" is set by the connector: use its option `group_id`"
        );
    }

    #[test]
    fn servers_and_topics_are_checked_before_anything_connects() {
        let parsed = addresses("a:9092, b.c:1,[::1]:9093,kafka").unwrap();
        let expected = [("a", 9092), ("b.c", 1), ("::1", 9093), ("kafka", 9092)];
        assert_eq!(parsed, expected.map(|(host, port)| (host.to_owned(), port)));
        for servers in ["", "a:", ":9092", "a:9092,,b:1", "a:port"] {
            assert!(addresses(servers).is_err(), "{servers}");
        }
        assert!(check_topic("a.b_c-1").is_ok());
        for topic in ["", "..", "a b", "ü", &"x".repeat(250)] {
            assert!(check_topic(topic).is_err(), "{topic}");
        }
    }
}
