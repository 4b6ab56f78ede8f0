//! `print` and `blackhole`: they take all kinds of changes.

use std::sync::Arc;

use thalweg_plan::ChangelogMode;
use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SinkAbilities, SinkSpec};

use super::options::TableOptions;
use crate::{BlackholeSink, PrintFormat, PrintSink, PrintTarget, Sink};

fn print_options(table: &CatalogTable) -> Result<TableOptions<'_>, ConnectorProblem> {
    let keys = ["print-identifier", "standard-error", "sink.parallelism"];
    let mut options = TableOptions::new("print", table, keys);
    options.validate(&[])?;
    Ok(options)
}

fn all_changes(parallelism: Option<u32>) -> SinkAbilities {
    SinkAbilities {
        changelog: ChangelogMode::ALL,
        metadata: Vec::new(),
        overwrite: false,
        parallelism,
    }
}

pub(crate) fn print_abilities(table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem> {
    let options = print_options(table)?;
    options.boolean("standard-error", false)?;
    Ok(all_changes(options.parallelism()?))
}

pub(crate) fn print_sink(spec: &SinkSpec) -> Result<Arc<dyn Sink>, ConnectorProblem> {
    let options = print_options(&spec.table)?;
    let target = match options.boolean("standard-error", false)? {
        true => PrintTarget::Stderr,
        false => PrintTarget::Stdout,
    };
    let identifier = options.get("print-identifier").unwrap_or_default();
    let sink = PrintSink::new(PrintFormat::Changelog).to(target);
    Ok(Arc::new(sink.identifier(identifier)))
}

pub(crate) fn blackhole_abilities(table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem> {
    TableOptions::new("blackhole", table, []).validate(&[])?;
    Ok(all_changes(None))
}

pub(crate) fn blackhole_sink(spec: &SinkSpec) -> Result<Arc<dyn Sink>, ConnectorProblem> {
    blackhole_abilities(&spec.table)?;
    Ok(Arc::new(BlackholeSink))
}
