//! `kafka` and `upsert-kafka`: Flink's KafkaDynamicTableFactory and UpsertKafkaDynamicTableFactory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{DataType as Arrow, Int32Type, Int64Type, TimeUnit};
use thalweg_formats::{Format, FormatKind, Projection};
use thalweg_plan::connector::{
    CatalogTable, ConnectorProblem, SinkAbilities, SinkSpec, SourceAbilities, SourceColumn, SourceSpec,
};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{ChangelogMode, DataType, Field, Schema, TypeRoot};

use super::decoding::{Convert, Decoding, DecodingSource, NoValue, Origin, Part};
use super::encoding::{self, Encoding, EncodingSink};
use super::formats::discover;
use super::options::{SOURCE_KEYS, TableOptions, problem, refusal};
use super::{insert_only_source, physical_fields};
use crate::kafka::{
    BytesFormat, DeliveryGuarantee, KafkaSink, KafkaSource, KafkaSourceBuilder, MetadataColumn, OffsetReset,
    OffsetsInitializer, Tombstones,
};
use crate::{ConnectorError, Sink, Source};

/// Which of the two connectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Append,
    Upsert,
}

const PROPERTIES: &str = "properties.";
const SERVERS: &str = "properties.bootstrap.servers";
const GROUP: &str = "properties.group.id";

const KEYS: [&str; 19] = [
    "topic",
    "topic-pattern",
    "key.fields",
    "key.fields-prefix",
    "value.fields-include",
    "scan.startup.mode",
    "scan.startup.specific-offsets",
    "scan.startup.timestamp-millis",
    "scan.bounded.mode",
    "scan.bounded.specific-offsets",
    "scan.bounded.timestamp-millis",
    "scan.topic-partition-discovery.interval",
    "sink.partitioner",
    "sink.parallelism",
    "sink.delivery-guarantee",
    "sink.transactional-id-prefix",
    "format",
    "key.format",
    "value.format",
];
const UPSERT_KEYS: [&str; 13] = [
    "topic",
    "key.fields-prefix",
    "value.fields-include",
    "scan.bounded.mode",
    "scan.bounded.specific-offsets",
    "scan.bounded.timestamp-millis",
    "sink.parallelism",
    "sink.delivery-guarantee",
    "sink.transactional-id-prefix",
    "sink.buffer-flush.max-rows",
    "sink.buffer-flush.interval",
    "key.format",
    "value.format",
];

/// What both directions need of a table's options.
struct Table<'a> {
    options: TableOptions<'a>,
    mode: Mode,
    topics: Vec<String>,
    value: Format,
    key: Option<Format>,
    /// Names of the key's fields, as the table has them.
    key_fields: Vec<String>,
    /// What they have before them in the table and not in the message.
    key_prefix: &'a str,
    value_has_key: bool,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Append => "kafka",
            Self::Upsert => "upsert-kafka",
        }
    }
}

impl<'a> Table<'a> {
    fn read(table: &'a CatalogTable, mode: Mode) -> Result<Self, ConnectorProblem> {
        let mut options = match mode {
            Mode::Append => TableOptions::new(mode.name(), table, SOURCE_KEYS.into_iter().chain(KEYS)),
            Mode::Upsert => TableOptions::new(mode.name(), table, SOURCE_KEYS.into_iter().chain(UPSERT_KEYS)),
        };
        options.support([SERVERS.to_owned()]);
        options.support_prefix(PROPERTIES);
        let key = discover(&mut options, "key.format")?;
        let format = match mode {
            Mode::Append => discover(&mut options, "format")?,
            Mode::Upsert => None,
        };
        let value = match format {
            Some(format) => Some(format),
            None => discover(&mut options, "value.format")?,
        };
        match mode {
            Mode::Append => options.validate(&[SERVERS])?,
            Mode::Upsert => options.validate(&["topic", SERVERS, "key.format", "value.format"])?,
        }
        let value = value.ok_or_else(|| {
            problem(
                "value.format",
                "Could not find required scan format 'value.format'.",
            )
        })?;
        let read = Self {
            topics: topics(&options)?,
            key_fields: key_fields(&options, mode, key.is_some())?,
            key_prefix: options.get("key.fields-prefix").unwrap_or_default(),
            value_has_key: options.choice(
                "value.fields-include",
                &[("ALL", true), ("EXCEPT_KEY", false)],
                true,
            )?,
            options,
            mode,
            value,
            key,
        };
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), ConnectorProblem> {
        let prefix = self.key_prefix;
        if !prefix.is_empty() && self.value_has_key {
            return Err(problem(
                "key.fields-prefix",
                "A key prefix is not allowed when option 'value.fields-include' is set to 'ALL'. Set it to 'EXCEPT_KEY' instead to avoid \
                 field overlaps.",
            ));
        }
        if let Some(field) = self.key_fields.iter().find(|field| !field.starts_with(prefix)) {
            return Err(problem(
                "key.fields",
                format!(
                    "All fields in 'key.fields' must be prefixed with '{prefix}' when option 'key.fields-prefix' is set but field '{field}' is \
                     not prefixed."
                ),
            ));
        }
        let has_key = self.options.table.schema.primary_key.is_some();
        let is_append = |format: &Format| format.kind().changelog().is_insert_only();
        match self.mode {
            Mode::Append if has_key && is_append(&self.value) => Err(refusal(format!(
                "The Kafka table '{}' with '{}' format doesn't support defining PRIMARY KEY constraint on the table, because it can't guarantee \
                 the semantic of primary key.",
                self.options.table.path,
                self.value.kind().name()
            ))),
            Mode::Upsert if !has_key => Err(refusal(
                "'upsert-kafka' tables require to define a PRIMARY KEY constraint. The PRIMARY KEY specifies which columns should be read from or \
                 write to the Kafka message key. The PRIMARY KEY also defines records in the 'upsert-kafka' table should update or delete records \
                 having the same key.",
            )),
            Mode::Upsert => match [self.key.as_ref(), Some(&self.value)]
                .into_iter()
                .flatten()
                .find(|format| !is_append(format))
            {
                Some(format) => Err(refusal(format!(
                    "'upsert-kafka' connector doesn't support '{0}' as format, because '{0}' is not in insert-only mode.",
                    format.kind().name()
                ))),
                None => self.check_formats(),
            },
            Mode::Append => self.check_formats(),
        }
    }

    fn check_formats(&self) -> Result<(), ConnectorProblem> {
        self.value.check(&self.fields_of_value()).map_err(refusal)?;
        match &self.key {
            Some(key) => key.check(&self.fields_of_key()).map_err(refusal),
            None => Ok(()),
        }
    }

    fn fields_of_value(&self) -> Vec<Field> {
        let mut fields = physical_fields(self.options.table);
        fields.retain(|field| self.value_has_key || !self.key_fields.contains(&field.name));
        fields
    }

    /// As the key's messages name them.
    fn fields_of_key(&self) -> Vec<Field> {
        let fields = physical_fields(self.options.table);
        let of_key = self
            .key_fields
            .iter()
            .filter_map(|name| fields.iter().find(|field| field.name == *name));
        of_key
            .map(|field| Field {
                name: field.name[self.key_prefix.len()..].to_owned(),
                data_type: field.data_type.clone(),
            })
            .collect()
    }

    /// Whether a column's values are read from the key.
    fn is_from_key(&self, column: &str) -> bool {
        let may = self.mode == Mode::Upsert || !self.value_has_key;
        may && self.key_fields.iter().any(|field| field == column)
    }
}

fn topics(options: &TableOptions<'_>) -> Result<Vec<String>, ConnectorProblem> {
    match (options.get("topic"), options.get("topic-pattern")) {
        (Some(_), Some(_)) => Err(problem(
            "topic",
            "Option 'topic' and 'topic-pattern' shouldn't be set together.",
        )),
        (None, None) => Err(problem("topic", "Either 'topic' or 'topic-pattern' must be set.")),
        (None, Some(_)) => Err(problem(
            "topic-pattern",
            "Option 'topic-pattern' is not supported: name the topics in 'topic', separated by semicolons.",
        )),
        (Some(topics), None) => Ok(topics
            .split(';')
            .map(|topic| topic.trim().to_owned())
            .filter(|topic| !topic.is_empty())
            .collect()),
    }
}

fn key_fields(
    options: &TableOptions<'_>,
    mode: Mode,
    has_format: bool,
) -> Result<Vec<String>, ConnectorProblem> {
    if mode == Mode::Upsert {
        return Ok(options.table.schema.primary_key.clone().unwrap_or_default());
    }
    let fields: Vec<String> = options
        .get("key.fields")
        .unwrap_or_default()
        .split(';')
        .filter(|field| !field.is_empty())
        .map(str::to_owned)
        .collect();
    if !has_format && !fields.is_empty() {
        return Err(problem(
            "key.fields",
            "The option 'key.fields' can only be declared if a key format is defined using 'key.format'.",
        ));
    }
    if has_format && fields.is_empty() {
        return Err(problem(
            "key.format",
            "A key format 'key.format' requires the declaration of one or more of key fields using 'key.fields'.",
        ));
    }
    let physical = physical_fields(options.table);
    if let Some(field) = fields
        .iter()
        .find(|field| physical.iter().all(|column| column.name != **field))
    {
        let columns: Vec<String> = physical.iter().map(|column| column.name.clone()).collect();
        return Err(problem(
            "key.fields",
            format!(
                "Could not find the field '{field}' in the table schema for usage in the key format. A key field must be a regular, physical \
                 column. The following columns can be selected in the 'key.fields' option:\n{}",
                columns.join("\n")
            ),
        ));
    }
    Ok(fields)
}

/// `partition:0,offset:42;partition:1,offset:300`
fn specific_offsets(
    key: &str,
    text: &str,
    topic: &str,
) -> Result<HashMap<(String, i32), i64>, ConnectorProblem> {
    let invalid = || {
        problem(
            key,
            format!(
                "Invalid properties '{key}' should follow the format 'partition:0,offset:42;partition:1,offset:300', but is '{text}'."
            ),
        )
    };
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once(',')?;
        let partition = partition.trim().strip_prefix("partition:")?.parse().ok()?;
        let offset = offset.trim().strip_prefix("offset:")?.parse().ok()?;
        Some(((topic.to_owned(), partition), offset))
    };
    text.split(';')
        .filter(|part| !part.is_empty())
        .map(|part| pair(part).ok_or_else(invalid))
        .collect()
}

impl Table<'_> {
    fn offsets(&self, scope: &str, mode: &str) -> Result<OffsetsInitializer, ConnectorProblem> {
        let required = |suffix: &str| {
            let key = format!("scan.{scope}.{suffix}");
            let value = self.options.get(&key).map(str::to_owned);
            value.map(|value| (key.clone(), value)).ok_or_else(|| {
                problem(
                    &key,
                    format!("'{key}' is required in '{mode}' {scope} mode but missing."),
                )
            })
        };
        Ok(match mode {
            "earliest-offset" if scope == "startup" => OffsetsInitializer::Earliest,
            "latest-offset" => OffsetsInitializer::Latest,
            "group-offsets" => OffsetsInitializer::Committed(self.reset()?),
            "timestamp" => {
                let (key, _) = required("timestamp-millis")?;
                let timestamp = self.options.number(&key)?;
                OffsetsInitializer::Timestamp(timestamp.unwrap_or_default())
            }
            "specific-offsets" => {
                let (key, text) = required("specific-offsets")?;
                let [topic] = self.topics.as_slice() else {
                    return Err(problem(
                        &key,
                        "Currently Kafka source only supports specific offset for single topic.",
                    ));
                };
                OffsetsInitializer::Offsets(specific_offsets(&key, &text, topic)?)
            }
            other => {
                let key = format!("scan.{scope}.mode");
                return Err(problem(
                    &key,
                    format!(
                        "Invalid value for option '{key}'.\n\nCould not parse value '{other}' for key '{key}'."
                    ),
                ));
            }
        })
    }

    /// `properties.auto.offset.reset`, for a group without offsets.
    fn reset(&self) -> Result<OffsetReset, ConnectorProblem> {
        let key = "properties.auto.offset.reset";
        let choices = [
            ("none", OffsetReset::None),
            ("earliest", OffsetReset::Earliest),
            ("latest", OffsetReset::Latest),
        ];
        self.options.choice(key, &choices, OffsetReset::None)
    }

    fn bounded(&self) -> Result<Option<OffsetsInitializer>, ConnectorProblem> {
        match self.options.get("scan.bounded.mode") {
            None | Some("unbounded") => Ok(None),
            Some(mode) => self.offsets("bounded", mode).map(Some),
        }
    }

    fn starting(&self) -> Result<OffsetsInitializer, ConnectorProblem> {
        match self.mode {
            Mode::Upsert => Ok(OffsetsInitializer::Earliest),
            Mode::Append => {
                let mode = self.options.get("scan.startup.mode").unwrap_or("group-offsets");
                self.offsets("startup", mode)
            }
        }
    }

    /// The client's properties but for those that have options of their own.
    fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.options.table.options.iter();
        all.filter(|(key, _)| ![SERVERS, GROUP, "properties.auto.offset.reset"].contains(&key.as_str()))
            .filter_map(|(key, value)| Some((key.strip_prefix(PROPERTIES)?, value.as_str())))
    }

    fn source_builder(&self) -> Result<KafkaSourceBuilder, ConnectorProblem> {
        let mut builder = KafkaSource::builder()
            .bootstrap_servers(self.options.get(SERVERS).unwrap_or_default())
            .topics(self.topics.iter().cloned())
            .starting_offsets(self.starting()?)
            .value_as_bytes()
            .tombstones(Tombstones::Null);
        if let Some(group) = self.options.get(GROUP) {
            builder = builder.group_id(group);
        }
        if let Some(end) = self.bounded()? {
            builder = builder.bounded(end);
        }
        if let Some(interval) = self.options.duration("scan.topic-partition-discovery.interval")? {
            builder = builder.partition_discovery_interval((interval > Duration::ZERO).then_some(interval));
        }
        for (key, value) in self.properties() {
            builder = builder.property(key, value);
        }
        Ok(builder)
    }
}

/// Keys of metadata, and what they are in the inner source.
fn metadata() -> [(&'static str, DataType, MetadataColumn); 4] {
    [
        (
            "topic",
            DataType::string().with_nullable(false),
            MetadataColumn::Topic,
        ),
        (
            "partition",
            DataType::not_null(TypeRoot::Int),
            MetadataColumn::Partition,
        ),
        (
            "offset",
            DataType::not_null(TypeRoot::BigInt),
            MetadataColumn::Offset,
        ),
        (
            "timestamp",
            DataType::not_null(TypeRoot::TimestampLtz(3, TimeKind::Regular)),
            MetadataColumn::Timestamp,
        ),
    ]
}

/// Numbers, names and times as the table declares them.
fn converted(column: &ArrayRef, declared: &Arrow) -> Option<ArrayRef> {
    if column.data_type() == declared {
        return Some(Arc::clone(column));
    }
    if let Arrow::Timestamp(unit, Some(zone)) = declared {
        let times = column.as_primitive_opt::<Int64Type>()?;
        let zone = Some(Arc::clone(zone));
        let values = |factor: i64| -> Vec<i64> {
            times
                .values()
                .iter()
                .map(|time| time.saturating_mul(factor))
                .collect()
        };
        return Some(match unit {
            TimeUnit::Nanosecond => {
                Arc::new(TimestampNanosecondArray::from(values(1_000_000)).with_timezone_opt(zone))
            }
            TimeUnit::Microsecond => {
                Arc::new(TimestampMicrosecondArray::from(values(1_000)).with_timezone_opt(zone))
            }
            _ => Arc::new(TimestampMillisecondArray::from(values(1)).with_timezone_opt(zone)),
        });
    }
    match declared {
        Arrow::Int64 => {
            let numbers = column.as_primitive_opt::<Int32Type>()?;
            Some(Arc::new(Int64Array::from_iter_values(
                numbers.values().iter().map(|number| i64::from(*number)),
            )))
        }
        _ => None,
    }
}

/// Whether [`converted`] can.
fn is_convertible(column: MetadataColumn, declared: &DataType) -> bool {
    matches!(
        (column, &declared.root),
        (MetadataColumn::Topic, TypeRoot::VarChar(_))
            | (MetadataColumn::Partition, TypeRoot::Int | TypeRoot::BigInt)
            | (MetadataColumn::Offset, TypeRoot::BigInt)
            | (MetadataColumn::Timestamp, TypeRoot::TimestampLtz(..))
    )
}

pub(crate) fn source_abilities(
    table: &CatalogTable,
    mode: Mode,
) -> Result<SourceAbilities, ConnectorProblem> {
    let read = Table::read(table, mode)?;
    let builder = read.source_builder()?;
    builder.build().map_err(refused)?;
    let bounded = read.bounded()?.is_some();
    Ok(SourceAbilities {
        changelog: match mode {
            Mode::Append => read.value.kind().changelog(),
            Mode::Upsert => ChangelogMode {
                key_only_deletes: true,
                ..ChangelogMode::UPSERT
            },
        },
        metadata: metadata()
            .into_iter()
            .map(|(key, data_type, _)| (key.to_owned(), data_type))
            .collect(),
        nested_projection: read.value.supports_nested_projection() && read.key.is_none(),
        ..insert_only_source(bounded)
    })
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: ConnectorError) -> ConnectorProblem {
    refusal(error.to_string())
}

pub(crate) fn source(
    spec: &SourceSpec,
    output: &Schema,
    mode: Mode,
) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let build = |builder: KafkaSourceBuilder| -> Result<Arc<dyn Source>, ConnectorProblem> {
        Ok(Arc::new(builder.build().map_err(refused)?))
    };
    decoding_source(spec, output, mode, build)
}

/// The source of a scan over the one that `build` makes: value, partition, offset, other metadata and the key.
fn decoding_source(
    spec: &SourceSpec,
    output: &Schema,
    mode: Mode,
    build: impl FnOnce(KafkaSourceBuilder) -> Result<Arc<dyn Source>, ConnectorProblem>,
) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let table = Table::read(&spec.table, mode)?;
    let mut builder = table.source_builder()?;
    // Columns of the inner source: the value, and behind it:
    let mut beside = vec![MetadataColumn::Partition, MetadataColumn::Offset];
    if table.topics.len() > 1 {
        beside.push(MetadataColumn::Topic);
    }
    let mut outputs = Vec::new();
    let (mut of_value, mut of_key) = (Vec::new(), Vec::new());
    for column in &spec.columns {
        outputs.push(match column {
            SourceColumn::Physical { path, data_type }
                if path.first().is_some_and(|name| table.is_from_key(name)) =>
            {
                let mut path = path.clone();
                path[0] = path[0][table.key_prefix.len()..].to_owned();
                of_key.push(SourceColumn::Physical {
                    path,
                    data_type: data_type.clone(),
                });
                Origin::Key(of_key.len() - 1)
            }
            physical @ SourceColumn::Physical { .. } => {
                of_value.push(physical.clone());
                Origin::Value(of_value.len() - 1)
            }
            SourceColumn::Metadata { key, data_type } => {
                let found = metadata().into_iter().find(|(name, ..)| name == key);
                let (_, _, column) =
                    found.ok_or_else(|| refusal(format!("Kafka metadata '{key}' is not supported.")))?;
                if !is_convertible(column, data_type) {
                    return Err(refusal(format!(
                        "Kafka metadata '{key}' can't be declared as {data_type}."
                    )));
                }
                let place = match beside.iter().position(|there| *there == column) {
                    Some(place) => place,
                    None => {
                        beside.push(column);
                        beside.len() - 1
                    }
                };
                Origin::Beside(place + 1, converted as Convert)
            }
        });
    }
    for (place, column) in beside.iter().enumerate() {
        builder = builder.metadata_column(format!("m{place}"), *column);
    }
    // Deletes are told by their keys.
    let reads_key = mode == Mode::Upsert || !of_key.is_empty();
    if reads_key {
        builder = builder.metadata_column(encoding::KEY, MetadataColumn::Key(BytesFormat::Binary));
    }
    let value = part(
        &table.value,
        table.fields_of_value(),
        &of_value,
        mode == Mode::Upsert,
    )?;
    let key = match &table.key {
        Some(format) if reads_key => Some(part(format, table.fields_of_key(), &of_key, false)?),
        _ => None,
    };
    let topics = table.topics;
    let decoding = Decoding {
        no_value: match mode {
            Mode::Upsert => NoValue::Delete,
            Mode::Append if value.format.kind() == FormatKind::Raw => NoValue::Row,
            Mode::Append => NoValue::Skip,
        },
        value,
        key,
        outputs,
        value_column: 0,
        key_column: 1 + beside.len(),
        describe: Box::new(move |batch, row| describe(&topics, batch, row)),
    };
    Ok(Arc::new(DecodingSource {
        inner: build(builder)?,
        decoding: Arc::new(decoding),
        schema: output.to_arrow(),
    }))
}

fn part(
    format: &Format,
    fields: Vec<Field>,
    wanted: &[SourceColumn],
    may_be_gone: bool,
) -> Result<Part, ConnectorProblem> {
    let projection = Projection::new(&fields, wanted).map_err(refusal)?;
    if let Some(field) = projection
        .fields
        .iter()
        .find(|field| may_be_gone && !field.data_type.nullable)
    {
        return Err(refusal(format!(
            "Column '{}' of an 'upsert-kafka' table is NOT NULL and not in its PRIMARY KEY: a delete has no value for it. Declare it without \
             NOT NULL.",
            field.name
        )));
    }
    Ok(Part {
        format: format.clone(),
        fields,
        projection,
    })
}

/// "Kafka topic \"t\" partition 0 offset 7"
fn describe(topics: &[String], batch: &arrow::array::RecordBatch, row: usize) -> String {
    let number = |column: usize| match batch.columns().get(column) {
        Some(column) => match (
            column.as_any().downcast_ref::<Int32Array>(),
            column.as_any().downcast_ref::<Int64Array>(),
        ) {
            (Some(numbers), _) if row < numbers.len() => i64::from(numbers.value(row)),
            (_, Some(numbers)) if row < numbers.len() => numbers.value(row),
            _ => -1,
        },
        None => -1,
    };
    let topic = match topics {
        [topic] => topic.as_str(),
        _ => batch
            .columns()
            .get(3)
            .and_then(|column| column.as_string_opt::<i32>())
            .filter(|names| row < names.len())
            .map_or("", |names| names.value(row)),
    };
    format!(
        "Kafka topic {topic:?} partition {} offset {}",
        number(1),
        number(2)
    )
}

pub(crate) fn sink_abilities(table: &CatalogTable, mode: Mode) -> Result<SinkAbilities, ConnectorProblem> {
    let read = Table::read(table, mode)?;
    read.sink()?;
    let writable = metadata()
        .into_iter()
        .filter(|(_, _, column)| *column == MetadataColumn::Timestamp);
    Ok(SinkAbilities {
        changelog: match mode {
            Mode::Append => read.value.kind().changelog(),
            Mode::Upsert => ChangelogMode::UPSERT,
        },
        metadata: writable
            .map(|(key, data_type, _)| (key.to_owned(), data_type.with_nullable(true)))
            .collect(),
        overwrite: false,
        parallelism: read.options.parallelism()?,
    })
}

impl Table<'_> {
    fn sink(&self) -> Result<KafkaSink, ConnectorProblem> {
        let [topic] = self.topics.as_slice() else {
            return Err(problem(
                "topic",
                "A Kafka sink writes to a single topic: name one in 'topic'.",
            ));
        };
        let guarantees = [
            ("none", DeliveryGuarantee::None),
            ("at-least-once", DeliveryGuarantee::AtLeastOnce),
            ("exactly-once", DeliveryGuarantee::ExactlyOnce),
        ];
        let guarantee = self.options.choice(
            "sink.delivery-guarantee",
            &guarantees,
            DeliveryGuarantee::AtLeastOnce,
        )?;
        match self.options.get("sink.partitioner") {
            None | Some("default") => {}
            Some(other) => {
                return Err(problem(
                    "sink.partitioner",
                    format!(
                        "'sink.partitioner' = '{other}' is not supported: 'default' is, the partition of the key as Kafka's client chooses it."
                    ),
                ));
            }
        }
        let mut builder = KafkaSink::builder()
            .bootstrap_servers(self.options.get(SERVERS).unwrap_or_default())
            .topic(topic)
            .delivery_guarantee(guarantee)
            .value_column(encoding::VALUE);
        if self.key.is_some() {
            builder = builder.key_column(encoding::KEY);
        }
        match (guarantee, self.options.get("sink.transactional-id-prefix")) {
            (DeliveryGuarantee::ExactlyOnce, Some(prefix)) => {
                builder = builder.transactional_id_prefix(prefix);
            }
            (DeliveryGuarantee::ExactlyOnce, None) => {
                return Err(problem(
                    "sink.transactional-id-prefix",
                    "sink.transactional-id-prefix must be specified when using DeliveryGuarantee.EXACTLY_ONCE.",
                ));
            }
            _ => {}
        }
        for (key, value) in self.properties() {
            builder = builder.property(key, value);
        }
        builder.build().map_err(refused)
    }
}

pub(crate) fn sink(spec: &SinkSpec, mode: Mode) -> Result<Arc<dyn Sink>, ConnectorProblem> {
    encoding_sink(spec, mode, |table| Ok(Arc::new(table.sink()?)))
}

/// The sink of an INSERT before the one that `build` makes.
fn encoding_sink(
    spec: &SinkSpec,
    mode: Mode,
    build: impl FnOnce(&Table<'_>) -> Result<Arc<dyn Sink>, ConnectorProblem>,
) -> Result<Arc<dyn Sink>, ConnectorProblem> {
    let table = Table::read(&spec.table, mode)?;
    let physical = physical_fields(&spec.table);
    let positions = |fields: &[Field], prefix: &str| -> Vec<usize> {
        let position = |field: &Field| {
            let name = format!("{prefix}{}", field.name);
            physical.iter().position(|column| column.name == name)
        };
        fields.iter().filter_map(position).collect()
    };
    let part = |format: &Format, fields: Vec<Field>, prefix: &str| encoding::Part {
        columns: positions(&fields, prefix),
        format: format.clone(),
        fields,
    };
    let timestamp = match spec.metadata.as_slice() {
        [] => None,
        [key] if key == "timestamp" => Some(physical.len()),
        [key, ..] => return Err(refusal(format!("Kafka metadata '{key}' can't be written."))),
    };
    let encoding = Encoding {
        value: part(&table.value, table.fields_of_value(), ""),
        key: table
            .key
            .as_ref()
            .map(|format| part(format, table.fields_of_key(), table.key_prefix)),
        buckets: None,
        timestamp,
        tombstones: mode == Mode::Upsert,
    };
    Ok(Arc::new(EncodingSink {
        inner: build(&table)?,
        encoding: Arc::new(encoding),
    }))
}

#[cfg(test)]
mod tests;
