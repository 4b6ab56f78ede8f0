//! The Kafka source and its builder, after Flink's `KafkaSource.builder()`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use rdkafka::ClientConfig;

use super::config::{addresses, check_topic, client_config};
use super::offsets::OffsetsInitializer;
use super::reader::KafkaSourceReader;
use super::rows::{BytesFormat, MetadataColumn, RowFormat, Tombstones};
use crate::watermark::{WatermarkAlignment, WatermarkStrategy};
use crate::{ConnectorContext, ConnectorError, Source, SourceReader};

/// How often new partitions are looked for by default; Flink's `partition.discovery.interval.ms`.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(300);
/// How long brokers may be away at the start by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often offsets are committed by default; Kafka's `auto.commit.interval.ms`.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// Where this differs from librdkafka's defaults: `read_uncommitted` is the Java client's and so Flink's; 16 MiB are held
/// ready a reader and not 64, and a full queue is looked at again after 10 ms and not a second.
const DEFAULTS: [(&str, &str); 4] = [
    ("isolation.level", "read_uncommitted"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "10"),
    ("client.id", "thalweg"),
];

/// What the readers need.
#[derive(Debug)]
pub(crate) struct SourceSettings {
    pub(crate) client: ClientConfig,
    pub(crate) servers: String,
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) starting: OffsetsInitializer,
    pub(crate) bounded: Option<OffsetsInitializer>,
    pub(crate) format: Arc<RowFormat>,
    pub(crate) watermarks: Option<WatermarkStrategy>,
    /// Splits' watermarks are those that [`SourceReader::report_watermarks`] says; records' timestamps are not looked at.
    pub(crate) reported_watermarks: bool,
    pub(crate) discovery_interval: Option<Duration>,
    pub(crate) commit_interval: Option<Duration>,
    pub(crate) connect_timeout: Duration,
}

/// Reads topics. Rows: the value, then the metadata columns in the order in which they were asked for.
#[derive(Debug, Clone)]
pub struct KafkaSource {
    settings: Arc<SourceSettings>,
}

impl KafkaSource {
    /// A builder; [`KafkaSourceBuilder::bootstrap_servers`] and [`KafkaSourceBuilder::topics`] are needed.
    pub fn builder() -> KafkaSourceBuilder {
        KafkaSourceBuilder::default()
    }

    /// A reader by its own type, for who needs [`KafkaSourceReader::snapshot_offsets`].
    pub fn reader(&self, context: ConnectorContext) -> Result<KafkaSourceReader, ConnectorError> {
        KafkaSourceReader::start(Arc::clone(&self.settings), context)
    }
}

impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.settings.format.schema)
    }

    fn kind(&self) -> &'static str {
        "KafkaSource"
    }

    fn watermark_alignment(&self) -> Option<&WatermarkAlignment> {
        self.settings.watermarks.as_ref()?.alignment.as_ref()
    }

    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError> {
        Ok(Box::new(self.reader(context)?))
    }
}

/// Builds a [`KafkaSource`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct KafkaSourceBuilder {
    servers: String,
    topics: Vec<String>,
    group: Option<String>,
    starting: OffsetsInitializer,
    bounded: Option<OffsetsInitializer>,
    properties: BTreeMap<String, String>,
    value: (String, BytesFormat),
    tombstones: Tombstones,
    metadata: Vec<(String, MetadataColumn)>,
    watermarks: Option<WatermarkStrategy>,
    reported_watermarks: bool,
    record_timestamps: bool,
    discovery_interval: Option<Duration>,
    connect_timeout: Duration,
}

impl Default for KafkaSourceBuilder {
    fn default() -> Self {
        Self {
            servers: String::new(),
            topics: Vec::new(),
            group: None,
            starting: OffsetsInitializer::Earliest,
            bounded: None,
            properties: BTreeMap::new(),
            value: ("value".to_owned(), BytesFormat::Utf8),
            tombstones: Tombstones::Fail,
            metadata: Vec::new(),
            watermarks: None,
            reported_watermarks: false,
            record_timestamps: false,
            discovery_interval: Some(DISCOVERY_INTERVAL),
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

impl KafkaSourceBuilder {
    /// `host:port`, several separated by commas.
    pub fn bootstrap_servers(self, servers: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            ..self
        }
    }

    /// The topics to read.
    pub fn topics<T: Into<String>>(self, topics: impl IntoIterator<Item = T>) -> Self {
        Self {
            topics: topics.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    /// The group that offsets are committed to, every 5 s (`auto.commit.interval.ms`) unless `enable.auto.commit` is
    /// `false`. Partitions are assigned by Flink's rule, never by the group.
    pub fn group_id(self, group: impl Into<String>) -> Self {
        Self {
            group: Some(group.into()),
            ..self
        }
    }

    /// Where to begin; the earliest record by default.
    pub fn starting_offsets(self, starting: OffsetsInitializer) -> Self {
        Self { starting, ..self }
    }

    /// Ends where this is at the start; Flink's `setBounded`. Turns discovery off.
    pub fn bounded(self, end: OffsetsInitializer) -> Self {
        Self {
            bounded: Some(end),
            ..self
        }
    }

    /// A property of the client, by its Java or librdkafka name.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// How often new partitions are looked for; `None` = never. 5 minutes by default, as in Flink.
    pub fn partition_discovery_interval(self, interval: Option<Duration>) -> Self {
        Self {
            discovery_interval: interval,
            ..self
        }
    }

    /// Values are text (the default): a Utf8 column. A record that isn't UTF-8 fails the job, and is named.
    pub fn value_as_string(mut self) -> Self {
        self.value.1 = BytesFormat::Utf8;
        self
    }

    /// Values are bytes: a Binary column.
    pub fn value_as_bytes(mut self) -> Self {
        self.value.1 = BytesFormat::Binary;
        self
    }

    /// The value column's name; `value` by default.
    pub fn value_column(mut self, name: impl Into<String>) -> Self {
        self.value.0 = name.into();
        self
    }

    /// What to do with records without a value; they fail the job by default.
    pub fn tombstones(self, tombstones: Tombstones) -> Self {
        Self { tombstones, ..self }
    }

    /// Adds a column beside the value.
    pub fn metadata_column(mut self, name: impl Into<String>, column: MetadataColumn) -> Self {
        self.metadata.push((name.into(), column));
        self
    }

    /// Batches carry the records' timestamps as event time.
    pub fn record_timestamps(self) -> Self {
        Self {
            record_timestamps: true,
            ..self
        }
    }

    /// Watermarks from the records' timestamps, split by split; brings [`Self::record_timestamps`].
    pub fn watermarks(self, strategy: WatermarkStrategy) -> Self {
        Self {
            watermarks: Some(strategy),
            ..self
        }
    }

    /// Watermarks split by split, as [`SourceReader::report_watermarks`] tells those of the rows: for who decodes event times from the values.
    pub(crate) fn reported_watermarks(
        self,
        idleness: Option<Duration>,
        alignment: Option<WatermarkAlignment>,
    ) -> Self {
        let strategy = WatermarkStrategy {
            max_out_of_orderness: Duration::ZERO,
            idleness,
            alignment,
        };
        Self {
            watermarks: Some(strategy),
            reported_watermarks: true,
            ..self
        }
    }

    /// How long the brokers may be away at the start; 30 s by default. Later they may be away for ever: reading goes on
    /// when they come back.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self {
            connect_timeout: timeout,
            ..self
        }
    }

    /// The source; [`ConnectorError::Refused`] names what is missing or malformed.
    pub fn build(mut self) -> Result<KafkaSource, ConnectorError> {
        let refuse = |what: String| Err(ConnectorError::Refused(format!("Kafka source: {what}")));
        addresses(&self.servers)?;
        if self.topics.is_empty() {
            return refuse("no topic is given".to_owned());
        }
        self.topics.iter().try_for_each(|topic| check_topic(topic))?;
        self.topics.sort();
        self.topics.dedup();
        let mut names = vec![&self.value.0];
        for (name, _) in &self.metadata {
            if names.contains(&name) {
                return refuse(format!("two columns are named {name:?}"));
            }
            names.push(name);
        }
        if [&Some(&self.starting), &self.bounded.as_ref()]
            .iter()
            .any(|offsets| offsets.is_some_and(OffsetsInitializer::needs_group))
            && self.group.is_none()
        {
            return refuse("committed offsets need a `group_id`".to_owned());
        }
        let discovery = self.discovery_interval()?;
        let commit_interval = self.commit_interval()?;
        let group = self
            .group
            .clone()
            .unwrap_or_else(|| format!("thalweg-{}", self.topics[0]));
        let required = [
            ("group.id", group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", self.starting.auto_offset_reset()),
            (
                "enable.partition.eof",
                if self.bounded.is_some() { "true" } else { "false" },
            ),
        ];
        let client = client_config(&self.servers, &DEFAULTS, &self.properties, &required)?;
        let event_time = self.record_timestamps || (self.watermarks.is_some() && !self.reported_watermarks);
        let format = RowFormat::new(self.value, self.tombstones, self.metadata, event_time);
        Ok(KafkaSource {
            settings: Arc::new(SourceSettings {
                client,
                servers: self.servers,
                topics: self.topics.into_iter().map(Arc::from).collect(),
                starting: self.starting,
                discovery_interval: if self.bounded.is_some() { None } else { discovery },
                bounded: self.bounded,
                format: Arc::new(format),
                watermarks: self.watermarks,
                reported_watermarks: self.reported_watermarks,
                commit_interval,
                connect_timeout: self.connect_timeout,
            }),
        })
    }

    /// Flink's property for the interval wins over the option, as it does there; 0 or less = never.
    fn discovery_interval(&mut self) -> Result<Option<Duration>, ConnectorError> {
        let Some(milliseconds) = self.take_number("partition.discovery.interval.ms")? else {
            return Ok(self.discovery_interval.filter(|interval| !interval.is_zero()));
        };
        Ok(u64::try_from(milliseconds)
            .ok()
            .filter(|interval| *interval > 0)
            .map(Duration::from_millis))
    }

    /// Kafka's own properties for committing steer ours.
    fn commit_interval(&mut self) -> Result<Option<Duration>, ConnectorError> {
        let interval = match self.take_number("auto.commit.interval.ms")? {
            Some(milliseconds) => Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0).max(1)),
            None => COMMIT_INTERVAL,
        };
        let enabled = match self
            .properties
            .remove("enable.auto.commit")
            .as_deref()
            .map(str::trim)
        {
            None | Some("true") => true,
            Some("false") => false,
            Some(other) => {
                return Err(ConnectorError::Refused(format!(
                    "Kafka property \"enable.auto.commit\" = {other:?} is refused: true or false is expected"
                )));
            }
        };
        Ok((enabled && self.group.is_some()).then_some(interval))
    }

    fn take_number(&mut self, key: &str) -> Result<Option<i64>, ConnectorError> {
        let Some(value) = self.properties.remove(key) else {
            return Ok(None);
        };
        value.trim().parse().map(Some).map_err(|_| {
            ConnectorError::Refused(format!(
                "Kafka property {key:?} = {value:?} is refused: a number is expected"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::offsets::OffsetReset;
    use arrow::datatypes::DataType;

    fn builder() -> KafkaSourceBuilder {
        KafkaSource::builder().bootstrap_servers("a:9092").topics(["in"])
    }

    fn refusal(builder: KafkaSourceBuilder) -> String {
        match builder.build() {
            Err(error @ ConnectorError::Refused(_)) => error.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn the_schema_is_the_value_and_the_columns_that_were_asked_for() {
        let source = builder()
            .value_as_bytes()
            .value_column("line")
            .metadata_column("k", MetadataColumn::Key(BytesFormat::Utf8))
            .metadata_column("o", MetadataColumn::Offset)
            .build()
            .unwrap();
        let fields = source
            .schema()
            .fields()
            .iter()
            .map(|field| {
                (
                    field.name().clone(),
                    field.data_type().clone(),
                    field.is_nullable(),
                )
            })
            .collect::<Vec<_>>();
        let expected = [
            ("line", DataType::Binary, false),
            ("k", DataType::Utf8, true),
            ("o", DataType::Int64, false),
        ];
        assert_eq!(
            fields,
            expected.map(|(name, data_type, nullable)| (name.to_owned(), data_type, nullable))
        );
    }

    #[test]
    fn offsets_are_committed_only_to_a_group_and_only_if_that_is_not_turned_off() {
        let interval = |builder: KafkaSourceBuilder| builder.build().unwrap().settings.commit_interval;
        assert_eq!(interval(builder()), None);
        assert_eq!(interval(builder().group_id("g")), Some(Duration::from_secs(5)));
        assert_eq!(
            interval(builder().group_id("g").property("auto.commit.interval.ms", "10")),
            Some(Duration::from_millis(10))
        );
        assert_eq!(
            interval(builder().group_id("g").property("enable.auto.commit", "false")),
            None
        );
    }

    #[test]
    fn flinks_discovery_property_wins_and_bounded_sources_do_not_discover() {
        let interval = |builder: KafkaSourceBuilder| builder.build().unwrap().settings.discovery_interval;
        assert_eq!(interval(builder()), Some(Duration::from_secs(300)));
        assert_eq!(
            interval(builder().property("partition.discovery.interval.ms", "-1")),
            None
        );
        assert_eq!(interval(builder().bounded(OffsetsInitializer::Latest)), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            refusal(KafkaSource::builder().bootstrap_servers("a:1")),
            "Kafka source: no topic is given"
        );
        let committed = OffsetsInitializer::Committed(OffsetReset::Earliest);
        assert_eq!(
            refusal(builder().starting_offsets(committed)),
            "Kafka source: committed offsets need a `group_id`"
        );
        let twice = builder().metadata_column("value", MetadataColumn::Topic);
        assert_eq!(refusal(twice), "Kafka source: two columns are named \"value\"");
    }
}
