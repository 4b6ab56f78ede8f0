//! The scan: messages of topics become rows.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, Int32Array, Int64Array};
use thalweg_formats::{Format, FormatKind, Projection};
use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SourceAbilities, SourceColumn, SourceSpec};
use thalweg_plan::{ChangelogMode, Field, Schema};

use super::metadata::{self, column_of, converted, readable};
use super::options::{GROUP, SERVERS, Table};
use super::{Mode, refused};
use crate::Source;
use crate::kafka::{BytesFormat, KafkaSource, KafkaSourceBuilder, MetadataColumn, Tombstones};
use crate::table::decoding::{Convert, Decoding, DecodingSource, NoValue, Origin, Part, RowWatermarks};
use crate::table::options::refusal;
use crate::table::{encoding, insert_only_source};

impl Table<'_> {
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

pub(crate) fn source_abilities(
    table: &CatalogTable,
    mode: Mode,
) -> Result<SourceAbilities, ConnectorProblem> {
    let read = Table::read(table, mode)?;
    let builder = read.source_builder()?;
    builder.build().map_err(refused)?;
    read.alignment()?;
    let bounded = read.bounded()?.is_some();
    Ok(SourceAbilities {
        changelog: match mode {
            Mode::Append => read.value.kind().changelog(),
            Mode::Upsert => ChangelogMode {
                key_only_deletes: true,
                ..ChangelogMode::UPSERT
            },
        },
        metadata: readable(&read.value),
        watermark: true,
        nested_projection: read.value.supports_nested_projection() && read.key.is_none(),
        ..insert_only_source(bounded)
    })
}

pub(crate) fn source(
    spec: &SourceSpec,
    output: &Schema,
    mode: Mode,
    watermarks: Option<RowWatermarks>,
) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let build = |builder: KafkaSourceBuilder| -> Result<Arc<dyn Source>, ConnectorProblem> {
        Ok(Arc::new(builder.build().map_err(refused)?))
    };
    decoding_source(spec, output, mode, watermarks, build)
}

/// The source of a scan over the one that `build` makes: value, partition, offset, other metadata and the key.
pub(super) fn decoding_source(
    spec: &SourceSpec,
    output: &Schema,
    mode: Mode,
    watermarks: Option<RowWatermarks>,
    build: impl FnOnce(KafkaSourceBuilder) -> Result<Arc<dyn Source>, ConnectorProblem>,
) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let table = Table::read(&spec.table, mode)?;
    let mut builder = table.source_builder()?;
    if let (Some(watermark), true) = (&spec.watermark, watermarks.is_some()) {
        let idleness = Duration::from_millis(watermark.idle_timeout_ms);
        let idleness = (!idleness.is_zero()).then_some(idleness);
        builder = builder.reported_watermarks(idleness, table.alignment()?);
    }
    // Columns of the inner source: the value, and behind it:
    let mut beside = vec![MetadataColumn::Partition, MetadataColumn::Offset];
    if table.topics.len() > 1 {
        beside.push(MetadataColumn::Topic);
    }
    let mut outputs = Vec::new();
    let (mut of_value, mut of_key, mut beside_value) = (Vec::new(), Vec::new(), Vec::new());
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
            SourceColumn::Metadata { key, .. } => {
                if let Some(key) = key.strip_prefix(metadata::VALUE) {
                    beside_value.push(key.to_owned());
                    outputs.push(Origin::ValueMetadata(beside_value.len() - 1));
                    continue;
                }
                let column = column_of(key)
                    .ok_or_else(|| refusal(format!("Kafka metadata '{key}' is not supported.")))?;
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
    let mut value = part(
        &table.value,
        table.fields_of_value(),
        &of_value,
        mode == Mode::Upsert,
    )?;
    value.metadata = beside_value;
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
        watermarks,
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
        metadata: Vec::new(),
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
