//! The connectors of CREATE TABLE: options become sources and sinks. Flink's table factories.
//!
//! ```text
//!   CatalogTable --TableConnectors--> abilities, for the planner; a wrong option is refused here
//!   SourceSpec --create_source--> Source: only the wanted columns and fields are decoded or made
//!   SinkSpec   --create_sink----> Sink
//!
//!   datagen, nexmark, thalweg-values: rows that are made      kafka, upsert-kafka, filesystem: messages <-> a format
//!   print, blackhole
//! ```
//!
//! Invariants: names, defaults and messages of options are those of Flink's factories; an option that is not supported is refused by
//! name, but for those that change no result (`scan.parallelism`, `sink.buffer-flush.*`, ..): they are taken without effect; whatever
//! `TableConnectors` accepts can be created.

mod columns;
mod datagen;
mod decoding;
mod encoding;
mod filesystem;
mod formats;
mod kafka;
mod metadata;
pub mod nexmark;
mod options;
mod print;
mod random;
mod values;

use std::sync::Arc;

use thalweg_plan::connector::{
    CatalogTable, ColumnKind, ConnectorProblem, Connectors, SinkAbilities, SinkSpec, SourceAbilities,
    SourceSpec,
};
use thalweg_plan::{ChangelogMode, Field, Schema};
use thalweg_types::config::Configuration;

pub use self::decoding::RowWatermarks;
pub use self::filesystem::LookupCache;
use self::metadata::Direction;
use self::options::problem;
use crate::{Sink, Source};

/// A connector by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connector {
    Blackhole,
    Datagen,
    Filesystem,
    Kafka,
    Nexmark,
    Print,
    UpsertKafka,
    Values,
}

impl Connector {
    /// In the order of their names.
    const ALL: [Self; 8] = [
        Self::Blackhole,
        Self::Datagen,
        Self::Filesystem,
        Self::Kafka,
        Self::Nexmark,
        Self::Print,
        Self::Values,
        Self::UpsertKafka,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Datagen => "datagen",
            Self::Filesystem => "filesystem",
            Self::Kafka => "kafka",
            Self::Nexmark => "nexmark",
            Self::Print => "print",
            Self::UpsertKafka => "upsert-kafka",
            Self::Values => "thalweg-values",
        }
    }

    fn of(table: &CatalogTable) -> Result<Self, ConnectorProblem> {
        let Some(name) = table.options.get("connector") else {
            return Err(problem(
                "connector",
                "Table options do not contain an option key 'connector' for discovering a connector.",
            ));
        };
        Self::ALL
            .into_iter()
            .find(|connector| connector.name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join("\n");
                problem(
                    "connector",
                    format!(
                        "Cannot discover a connector using option: 'connector'='{name}'\n\nCould not find any factory for identifier '{name}'. \
                         Available factory identifiers are:\n\n{names}"
                    ),
                )
            })
    }
}

/// What this crate's connectors can do for a table.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableConnectors;

impl Connectors for TableConnectors {
    fn source(&self, table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
        let connector = Connector::of(table)?;
        let abilities = match connector {
            Connector::Datagen => datagen::source_abilities(table),
            Connector::Nexmark => nexmark::source_abilities(table),
            Connector::Values => values::source_abilities(table),
            Connector::Filesystem => filesystem::source_abilities(table),
            Connector::Kafka => kafka::source_abilities(table, kafka::Mode::Append),
            Connector::UpsertKafka => kafka::source_abilities(table, kafka::Mode::Upsert),
            Connector::Print | Connector::Blackhole => Err(only_a(connector, "sink", "source")),
        }?;
        metadata::check(table, connector.name(), Direction::Reading, &abilities.metadata)?;
        Ok(abilities)
    }

    fn sink(&self, table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem> {
        let connector = Connector::of(table)?;
        let abilities = match connector {
            Connector::Print => print::print_abilities(table),
            Connector::Blackhole => print::blackhole_abilities(table),
            Connector::Filesystem => filesystem::sink_abilities(table),
            Connector::Kafka => kafka::sink_abilities(table, kafka::Mode::Append),
            Connector::UpsertKafka => kafka::sink_abilities(table, kafka::Mode::Upsert),
            Connector::Datagen | Connector::Nexmark | Connector::Values => {
                Err(only_a(connector, "source", "sink"))
            }
        }?;
        metadata::check(table, connector.name(), Direction::Writing, &abilities.metadata)?;
        Ok(abilities)
    }

    fn names(&self) -> Vec<&'static str> {
        Connector::ALL.map(Connector::name).to_vec()
    }
}

fn only_a(connector: Connector, can: &str, cannot: &str) -> ConnectorProblem {
    problem(
        "connector",
        format!(
            "Connector '{}' can only be used as a {can}. It cannot be used as a {cannot}.",
            connector.name()
        ),
    )
}

/// The source of a scan. `output` is its node's schema: the types of `spec.columns`, in that order. `watermarks` is the expression of
/// `spec.watermark`, if there is one.
pub fn create_source(
    spec: &SourceSpec,
    output: &Schema,
    _configuration: &Configuration,
    watermarks: Option<RowWatermarks>,
) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let connector = Connector::of(&spec.table)?;
    match connector {
        Connector::Datagen => datagen::source(spec, output),
        Connector::Nexmark => nexmark::source(spec, output),
        Connector::Values => values::source(spec, output),
        Connector::Filesystem => filesystem::source(spec, output),
        Connector::Kafka => kafka::source(spec, output, kafka::Mode::Append, watermarks),
        Connector::UpsertKafka => kafka::source(spec, output, kafka::Mode::Upsert, watermarks),
        Connector::Print | Connector::Blackhole => Err(only_a(connector, "sink", "source")),
    }
}

/// A table that rows are joined with as they come: a source of all of its rows as they are when a reader is made, and how they are held.
pub fn create_lookup(
    spec: &SourceSpec,
    output: &Schema,
) -> Result<(Arc<dyn Source>, LookupCache), ConnectorProblem> {
    match Connector::of(&spec.table)? {
        Connector::Filesystem => Ok((
            filesystem::source(spec, output)?,
            filesystem::lookup_cache(&spec.table)?,
        )),
        other => Err(problem(
            "connector",
            format!("Connector '{}' can't look up keys.", other.name()),
        )),
    }
}

/// The sink of an INSERT.
pub fn create_sink(
    spec: &SinkSpec,
    _configuration: &Configuration,
) -> Result<Arc<dyn Sink>, ConnectorProblem> {
    let connector = Connector::of(&spec.table)?;
    match connector {
        Connector::Print => print::print_sink(spec),
        Connector::Blackhole => print::blackhole_sink(spec),
        Connector::Filesystem => filesystem::sink(spec),
        Connector::Kafka => kafka::sink(spec, kafka::Mode::Append),
        Connector::UpsertKafka => kafka::sink(spec, kafka::Mode::Upsert),
        Connector::Datagen | Connector::Nexmark | Connector::Values => {
            Err(only_a(connector, "source", "sink"))
        }
    }
}

/// The table's physical columns.
fn physical_fields(table: &CatalogTable) -> Vec<Field> {
    let columns = table.schema.columns.iter();
    columns
        .filter(|column| matches!(column.kind, ColumnKind::Physical))
        .map(|column| Field::new(&column.name, column.data_type.clone().materialized()))
        .collect()
}

/// A source of inserts that can do nothing else.
fn insert_only_source(bounded: bool) -> SourceAbilities {
    SourceAbilities {
        changelog: ChangelogMode::INSERT_ONLY,
        bounded,
        metadata: Vec::new(),
        projection: true,
        nested_projection: true,
        filters: false,
        limit: false,
        watermark: false,
        lookup: false,
    }
}

#[cfg(test)]
mod testing;
