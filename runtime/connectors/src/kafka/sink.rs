//! The Kafka sink and its builder, after Flink's `KafkaSink.builder()`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::config::{addresses, check_topic};
use super::producer::config::ProducerConfig;
use super::producer::transaction::{ExpiredTransaction, TransactionSettings, check_prefix};
use super::writer::KafkaWriter;
use crate::columns::BytesColumn;
use crate::{ConnectorContext, ConnectorError, Sink, SinkWriter};

/// How long brokers may be away at the start by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What is promised about records when a job fails; Flink's `DeliveryGuarantee`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryGuarantee {
    /// Records may be lost or come twice: a flush doesn't wait for what is in flight, except at the end of the input.
    None,
    /// Records may come twice: a flush waits until all is acknowledged.
    AtLeastOnce,
    /// Each record comes once to readers of committed records (`isolation.level=read_committed`), who see it when the checkpoint
    /// behind it is complete. Needs checkpoints and [`KafkaSinkBuilder::transactional_id_prefix`].
    ExactlyOnce,
}

/// What the writers need.
#[derive(Debug)]
pub(crate) struct SinkSettings {
    pub(crate) producer: ProducerConfig,
    /// As the user gave them.
    pub(crate) servers: String,
    /// The same as host and port; at least one.
    pub(crate) bootstrap: Vec<(String, u16)>,
    pub(crate) topic: String,
    pub(crate) guarantee: DeliveryGuarantee,
    /// With [`DeliveryGuarantee::ExactlyOnce`] only.
    pub(crate) transactions: Option<TransactionSettings>,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Option<String>,
    pub(crate) connect_timeout: Duration,
}

impl SinkSettings {
    /// The value column's index: the named one, else the only one beside the key.
    pub(crate) fn value_index(&self, schema: &Schema) -> Result<usize, ConnectorError> {
        if let Some(name) = &self.value {
            return self.column(schema, "value", name);
        }
        let mut others =
            (0..schema.fields().len()).filter(|index| Some(schema.field(*index).name()) != self.key.as_ref());
        match (others.next(), others.next()) {
            (Some(index), None) => self.column(schema, "value", schema.field(index).name()),
            _ => Err(self.refused(&format!(
                "the rows have the columns {}: name one by `value_column`",
                names(schema)
            ))),
        }
    }

    /// The key column's index.
    pub(crate) fn key_index(&self, schema: &Schema) -> Result<Option<usize>, ConnectorError> {
        self.key
            .as_ref()
            .map(|name| self.column(schema, "key", name))
            .transpose()
    }

    /// The index of the column of headers.
    pub(crate) fn headers_index(&self, schema: &Schema) -> Result<Option<usize>, ConnectorError> {
        let Some(name) = &self.headers else {
            return Ok(None);
        };
        let index = schema.index_of(name).map_err(|_| {
            self.refused(&format!(
                "the headers' column {name:?} is not among {}",
                names(schema)
            ))
        })?;
        let data_type = schema.field(index).data_type();
        if is_map_of_bytes(data_type) {
            return Ok(Some(index));
        }
        Err(self.refused(&format!(
            "the headers' column {name:?} is {data_type}: a map of Utf8 to Binary is needed"
        )))
    }

    fn column(&self, schema: &Schema, role: &str, name: &str) -> Result<usize, ConnectorError> {
        let Ok(index) = schema.index_of(name) else {
            return Err(self.refused(&format!(
                "the {role} column {name:?} is not among {}",
                names(schema)
            )));
        };
        let data_type = schema.field(index).data_type();
        if BytesColumn::accepts(data_type) {
            return Ok(index);
        }
        Err(self.refused(&format!(
            "the {role} column {name:?} is {data_type}: text or bytes are needed (Utf8 or Binary); map it to text before the sink"
        )))
    }

    fn refused(&self, what: &str) -> ConnectorError {
        ConnectorError::Refused(format!("Kafka sink of topic {:?}: {what}", self.topic))
    }
}

fn is_map_of_bytes(data_type: &DataType) -> bool {
    let DataType::Map(entries, _) = data_type else {
        return false;
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return false;
    };
    matches!(fields.as_ref(), [key, value] if *key.data_type() == DataType::Utf8 && *value.data_type() == DataType::Binary)
}

fn names(schema: &Schema) -> String {
    let names = schema
        .fields()
        .iter()
        .map(|field| format!("{:?}", field.name()))
        .collect::<Vec<_>>();
    if names.is_empty() {
        "no column".to_owned()
    } else {
        names.join(", ")
    }
}

/// Writes a record a row. The partition is chosen by the key as the Java client does (murmur2); the record's timestamp is
/// the row's event time where there is one; a null value is a tombstone.
#[derive(Debug, Clone)]
pub struct KafkaSink {
    settings: Arc<SinkSettings>,
}

impl KafkaSink {
    /// A builder; [`KafkaSinkBuilder::bootstrap_servers`] and [`KafkaSinkBuilder::topic`] are needed.
    pub fn builder() -> KafkaSinkBuilder {
        KafkaSinkBuilder::default()
    }
}

impl Sink for KafkaSink {
    fn kind(&self) -> &'static str {
        "KafkaSink"
    }

    fn validate(&self, input: &SchemaRef) -> Result<(), ConnectorError> {
        self.settings.value_index(input)?;
        self.settings.key_index(input)?;
        self.settings.headers_index(input)?;
        Ok(())
    }

    fn exclusive_name(&self) -> Option<String> {
        let transactions = self.settings.transactions.as_ref()?;
        Some(format!("transactional_id_prefix {:?}", transactions.prefix))
    }

    fn create_writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        if self.settings.guarantee == DeliveryGuarantee::ExactlyOnce && !context.checkpointing {
            return Err(self.settings.refused(
                "DeliveryGuarantee::ExactlyOnce commits when a checkpoint is complete and this job takes none: set \
                 `execution.checkpointing.interval`, or use AtLeastOnce",
            ));
        }
        Ok(Box::new(KafkaWriter::start(
            Arc::clone(&self.settings),
            &context,
        )?))
    }
}

/// Builds a [`KafkaSink`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct KafkaSinkBuilder {
    servers: String,
    topic: String,
    guarantee: DeliveryGuarantee,
    prefix: Option<String>,
    expired: ExpiredTransaction,
    key: Option<String>,
    value: Option<String>,
    headers: Option<String>,
    properties: BTreeMap<String, String>,
    connect_timeout: Duration,
}

impl Default for KafkaSinkBuilder {
    fn default() -> Self {
        Self {
            servers: String::new(),
            topic: String::new(),
            guarantee: DeliveryGuarantee::AtLeastOnce,
            prefix: None,
            expired: ExpiredTransaction::FailJob,
            key: None,
            value: None,
            headers: None,
            properties: BTreeMap::new(),
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

impl KafkaSinkBuilder {
    /// `host:port`, several separated by commas.
    pub fn bootstrap_servers(self, servers: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            ..self
        }
    }

    /// The topic to write to.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            ..self
        }
    }

    /// At least once by default. (Flink's default is none; who wants to lose records has to say so here.)
    pub fn delivery_guarantee(self, guarantee: DeliveryGuarantee) -> Self {
        Self { guarantee, ..self }
    }

    /// What the ids of this sink's transactions begin with; needed for [`DeliveryGuarantee::ExactlyOnce`] and by nothing else. No
    /// other sink, of this job or another one, may have the same: each would abort the other's transactions.
    pub fn transactional_id_prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            prefix: Some(prefix.into()),
            ..self
        }
    }

    /// What to do at a restore with a transaction of the checkpoint that the brokers have aborted since, because it was open for longer than
    /// `transaction.timeout.ms`; the job fails by default, naming the records.
    pub fn on_expired_transaction(self, expired: ExpiredTransaction) -> Self {
        Self { expired, ..self }
    }

    /// The column that becomes the record's key; none by default.
    pub fn key_column(self, name: impl Into<String>) -> Self {
        Self {
            key: Some(name.into()),
            ..self
        }
    }

    /// The column that becomes the record's value; may be left out if there is only one beside the key.
    pub fn value_column(self, name: impl Into<String>) -> Self {
        Self {
            value: Some(name.into()),
            ..self
        }
    }

    /// The column that becomes the record's headers, a map of Utf8 to Binary; none by default. Headers without a value are left out.
    pub fn headers_column(self, name: impl Into<String>) -> Self {
        Self {
            headers: Some(name.into()),
            ..self
        }
    }

    /// A property of the producer, by the Java client's name: `acks`, `linger.ms`, `compression.type` and so on.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// How long the brokers may be away at the start; 30 s by default. Later `delivery.timeout.ms` counts.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self {
            connect_timeout: timeout,
            ..self
        }
    }

    /// The sink; [`ConnectorError::Refused`] names what is missing or malformed.
    pub fn build(self) -> Result<KafkaSink, ConnectorError> {
        let bootstrap = addresses(&self.servers)?;
        check_topic(&self.topic)?;
        let producer = ProducerConfig::from_properties(&self.properties)?;
        let transactions = self.transactions(&producer)?;
        Ok(KafkaSink {
            settings: Arc::new(SinkSettings {
                producer,
                servers: self.servers,
                bootstrap,
                topic: self.topic,
                guarantee: self.guarantee,
                transactions,
                key: self.key,
                value: self.value,
                headers: self.headers,
                connect_timeout: self.connect_timeout,
            }),
        })
    }

    fn transactions(&self, producer: &ProducerConfig) -> Result<Option<TransactionSettings>, ConnectorError> {
        let refuse = |what: &str| {
            Err(ConnectorError::Refused(format!(
                "Kafka sink of topic {:?}: {what}",
                self.topic
            )))
        };
        match (self.guarantee, &self.prefix) {
            (DeliveryGuarantee::ExactlyOnce, None) => refuse(
                "DeliveryGuarantee::ExactlyOnce needs `transactional_id_prefix`, a name that no other sink has",
            ),
            (DeliveryGuarantee::ExactlyOnce, Some(_)) if !producer.send.idempotent => refuse(
                "DeliveryGuarantee::ExactlyOnce needs the properties acks=all, enable.idempotence=true and \
                 max.in.flight.requests.per.connection of 5 at most",
            ),
            (DeliveryGuarantee::ExactlyOnce, Some(prefix)) => {
                check_prefix(prefix)?;
                Ok(Some(TransactionSettings {
                    prefix: prefix.clone(),
                    timeout_ms: producer.transaction_timeout_ms,
                    expired: self.expired,
                }))
            }
            (_, None) if self.expired != ExpiredTransaction::FailJob => refuse(
                "`on_expired_transaction` is for DeliveryGuarantee::ExactlyOnce: set that too, or leave it out",
            ),
            (_, None) => Ok(None),
            (_, Some(_)) => refuse(
                "`transactional_id_prefix` is for DeliveryGuarantee::ExactlyOnce: set that too, or leave it out",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};

    fn builder() -> KafkaSinkBuilder {
        KafkaSink::builder().bootstrap_servers("a:9092").topic("out")
    }

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
        Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
    }

    #[test]
    fn the_only_column_beside_the_key_is_the_value() {
        let sink = builder().key_column("k").build().unwrap();
        let rows = schema(&[("k", DataType::Binary), ("line", DataType::Utf8View)]);
        sink.validate(&rows).unwrap();
        assert_eq!(sink.settings.value_index(&rows).unwrap(), 1);
    }

    #[test]
    fn columns_that_are_missing_ambiguous_or_of_another_type_are_refused_by_name() {
        let refusal = |builder: KafkaSinkBuilder, rows| {
            builder.build().unwrap().validate(&rows).unwrap_err().to_string()
        };
        let two = schema(&[("a", DataType::Utf8), ("b", DataType::Int64)]);
        assert_eq!(
            refusal(builder(), Arc::clone(&two)),
            "Kafka sink of topic \"out\": the rows have the columns \"a\", \"b\": name one by `value_column`"
        );
        assert_eq!(
            refusal(builder().value_column("c"), Arc::clone(&two)),
            "Kafka sink of topic \"out\": the value column \"c\" is not among \"a\", \"b\""
        );
        let error = refusal(builder().value_column("a").key_column("b"), two);
        assert!(
            error.contains("the key column \"b\" is Int64: text or bytes are needed"),
            "{error}"
        );
    }

    #[test]
    fn exactly_once_and_a_prefix_need_each_other_and_an_idempotent_producer() {
        let exactly_once = || builder().delivery_guarantee(DeliveryGuarantee::ExactlyOnce);
        let refusal = |builder: KafkaSinkBuilder| builder.build().unwrap_err().to_string();
        assert!(refusal(exactly_once()).contains("needs `transactional_id_prefix`"));
        assert!(
            refusal(builder().transactional_id_prefix("p")).contains("is for DeliveryGuarantee::ExactlyOnce")
        );
        assert!(refusal(exactly_once().transactional_id_prefix("a b")).contains("prefix \"a b\""));
        let unsafe_acks = exactly_once().transactional_id_prefix("p").property("acks", "1");
        assert!(refusal(unsafe_acks).contains("needs the properties acks=all"));
        let sink = exactly_once()
            .transactional_id_prefix("p")
            .property("transaction.timeout.ms", "5000");
        assert_eq!(
            sink.build().unwrap().settings.transactions,
            Some(TransactionSettings {
                prefix: "p".to_owned(),
                timeout_ms: 5_000,
                expired: ExpiredTransaction::FailJob,
            })
        );
    }
}
