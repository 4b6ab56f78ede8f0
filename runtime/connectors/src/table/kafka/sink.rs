//! The sink: rows become messages of a topic.

use std::sync::Arc;

use thalweg_formats::Format;
use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SinkAbilities, SinkSpec};
use thalweg_plan::{ChangelogMode, Field};

use super::metadata::{HEADERS, TIMESTAMP, headers, writable};
use super::options::{SERVERS, Table};
use super::{Mode, refused};
use crate::Sink;
use crate::kafka::{DeliveryGuarantee, KafkaSink};
use crate::table::encoding::{self, Encoding, EncodingSink};
use crate::table::options::{problem, refusal};
use crate::table::physical_fields;

pub(crate) fn sink_abilities(table: &CatalogTable, mode: Mode) -> Result<SinkAbilities, ConnectorProblem> {
    let read = Table::read(table, mode)?;
    read.sink(false)?;
    Ok(SinkAbilities {
        changelog: match mode {
            Mode::Append => read.value.kind().changelog(),
            Mode::Upsert => ChangelogMode::UPSERT,
        },
        metadata: writable(),
        overwrite: false,
        parallelism: read.options.parallelism()?,
    })
}

impl Table<'_> {
    fn sink(&self, writes_headers: bool) -> Result<KafkaSink, ConnectorProblem> {
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
        for format in [Some(&self.value), self.key.as_ref()].into_iter().flatten() {
            format.check_writing().map_err(refusal)?;
        }
        let mut builder = KafkaSink::builder()
            .bootstrap_servers(self.options.get(SERVERS).unwrap_or_default())
            .topic(topic)
            .delivery_guarantee(guarantee)
            .value_column(encoding::VALUE);
        if self.key.is_some() {
            builder = builder.key_column(encoding::KEY);
        }
        if writes_headers {
            builder = builder.headers_column(encoding::HEADERS);
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
    let writes_headers = spec.metadata.iter().any(|key| key == HEADERS);
    encoding_sink(spec, mode, |table| Ok(Arc::new(table.sink(writes_headers)?)))
}

/// The sink of an INSERT before the one that `build` makes.
pub(super) fn encoding_sink(
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
    let place = |key: &str| spec.metadata.iter().position(|there| there == key);
    let place = |key: &str| place(key).map(|place| physical.len() + place);
    let headers = place(HEADERS).map(|place| (place, headers().to_arrow()));
    let encoding = Encoding {
        value: part(&table.value, table.fields_of_value(), ""),
        key: table
            .key
            .as_ref()
            .map(|format| part(format, table.fields_of_key(), table.key_prefix)),
        buckets: None,
        timestamp: place(TIMESTAMP),
        headers,
        tombstones: mode == Mode::Upsert,
    };
    Ok(Arc::new(EncodingSink {
        inner: build(&table)?,
        encoding: Arc::new(encoding),
    }))
}
