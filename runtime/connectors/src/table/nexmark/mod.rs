//! `nexmark`: people, auctions and bids, with the options, columns and distributions of the reference generator
//! (github.com/nexmark/nexmark).
//!
//! ```text
//!   event n --id, time, kind--> fields that are read, each from a random stream of its own (seed, event, field)
//!   events in blocks, blocks in turns over 1024 lanes, lanes over the subtasks: all subtasks go along one line of time
//! ```
//!
//! With `recorded.path` events come from files that [`recorded::record`] wrote.
//!
//! Where it differs from the reference: every run with the same `seed` gives the same events, whatever the parallelism (there each
//! subtask has its own random events and its own line of time); with a `seed` times begin at 2015-07-15 00:00:00 and not now.

mod config;
mod events;
mod fields;
mod reader;
pub mod recorded;
mod rows;

use std::sync::Arc;

use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SourceAbilities, SourceSpec};
use thalweg_plan::{Expr, ExprKind, Literal, Schema};

use self::config::NexmarkConfig;
use self::events::EventKind;
use self::fields::{Output, check_columns, output_of};
use self::reader::NexmarkSource;
use self::recorded::RecordedSource;
use super::insert_only_source;
use crate::Source;

pub(crate) fn source_abilities(table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
    let config = NexmarkConfig::read(table)?;
    check_columns(table)?;
    let is_recorded = config.recorded.is_some();
    let ends = config.events < u64::MAX && !config.keep_alive;
    Ok(SourceAbilities {
        filters: true,
        limit: !is_recorded,
        ..insert_only_source(is_recorded || ends)
    })
}

pub(crate) fn source(spec: &SourceSpec, output: &Schema) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let mut config = NexmarkConfig::read(&spec.table)?;
    check_columns(&spec.table)?;
    let outputs: Vec<Output> = spec.columns.iter().map(output_of).collect::<Result<_, _>>()?;
    let kinds = wanted_kinds(&spec.filters, &outputs);
    // With a filter, more events than rows may be needed.
    if let (Some(limit), true) = (spec.limit, spec.filters.is_empty()) {
        config.events = config.events.min(limit);
    }
    if let Some(folder) = config.recorded {
        let schema = output.to_arrow();
        return Ok(Arc::new(RecordedSource::new(folder, outputs, kinds, schema)));
    }
    Ok(Arc::new(NexmarkSource::new(
        config,
        outputs,
        kinds,
        output.to_arrow(),
    )))
}

/// Of which kinds `event_type = n` leaves events.
fn wanted_kinds(filters: &[Expr], outputs: &[Output]) -> [bool; 3] {
    let mut wanted = [true; 3];
    for number in filters.iter().filter_map(|filter| required_type(filter, outputs)) {
        for kind in EventKind::ALL {
            wanted[kind as usize] &= i64::from(kind as u8) == number;
        }
    }
    wanted
}

/// The number of `event_type = number`.
fn required_type(filter: &Expr, outputs: &[Output]) -> Option<i64> {
    let ExprKind::Call { function, args } = &filter.kind else {
        return None;
    };
    let ("=", [left, right]) = (&**function, args.as_slice()) else {
        return None;
    };
    match (&left.kind, &right.kind) {
        (ExprKind::Column(column), ExprKind::Literal(Literal::Int(number)))
        | (ExprKind::Literal(Literal::Int(number)), ExprKind::Column(column)) => {
            matches!(outputs.get(*column), Some(Output::EventType)).then_some(*number)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
