//! What differs where `execution.runtime-mode` is BATCH: sources end, all rows are inserts, nothing is ever updated.
//!
//! ```text
//!   scan: bounded, +I only, no watermarks        Planner::lower: each draft gives +I only; what has no batch form is refused
//! ```
//!
//! Operators are those of streams: whoever runs a batch plan reads what they mean, not how they keep state.

use thalweg_plan::connector::{CatalogTable, SourceAbilities};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{WindowKind, WindowSpec, Windowing};
use thalweg_plan::{ChangelogMode, NodeSpec, Schema};

use super::draft::{Draft, Kinds};
use crate::error::{Position, SqlError};

/// Refuses a source that doesn't end or that gives changes, in Flink's words.
pub(crate) fn check_source(
    table: &CatalogTable,
    abilities: &SourceAbilities,
    position: Option<Position>,
) -> Result<(), SqlError> {
    let refused = |message: String| Err(SqlError::semantic(message, position));
    if !abilities.bounded {
        return refused(format!(
            "Querying an unbounded table '{}' in batch mode is not allowed. The table source is unbounded.",
            table.path
        ));
    }
    if !abilities.changelog.is_insert_only() {
        return refused(format!(
            "Querying a table in batch mode is currently only possible for INSERT-only table sources. But the source for table '{}' produces \
             other changelog messages than just INSERT.",
            table.path
        ));
    }
    Ok(())
}

/// The same operators, whose rows are inserts; those that have no batch form are refused.
pub(crate) fn of_inserts(mut draft: Draft) -> Result<Draft, SqlError> {
    settle(&mut draft)?;
    Ok(draft)
}

fn settle(draft: &mut Draft) -> Result<(), SqlError> {
    if let Some(message) = unsupported(draft) {
        return Err(SqlError::unsupported(message, draft.position));
    }
    let is_new = !draft.is_insert_only() || draft.changelog != ChangelogMode::INSERT_ONLY;
    draft.kinds = Kinds::INSERT;
    draft.changelog = ChangelogMode::INSERT_ONLY;
    // An operator that is settled has settled inputs, but for those that one relation made together.
    if is_new || draft.inputs.len() == 1 {
        for input in &mut draft.inputs {
            settle(&mut input.node)?;
        }
    }
    Ok(())
}

/// Why an operator is refused; in Flink's words where Flink refuses it, too.
fn unsupported(draft: &Draft) -> Option<&'static str> {
    let input = draft.input().map(|input| &input.schema);
    match &draft.spec {
        NodeSpec::TemporalJoin(_) => {
            Some("A temporal join (FOR SYSTEM_TIME AS OF a rowtime) is not supported in batch mode")
        }
        NodeSpec::LookupJoin(_) => {
            Some("A lookup join (FOR SYSTEM_TIME AS OF processing time) is not supported in batch mode")
        }
        NodeSpec::ChangelogNormalize { .. } => Some("A table of changes is not supported in batch mode"),
        NodeSpec::IntervalJoin(spec) if is_proctime(input, spec.left_time) => {
            Some("An interval join by processing time is not supported in batch mode")
        }
        NodeSpec::WindowTableFunction(window) => of_window(window, input),
        NodeSpec::WindowAggregate(spec) => match &spec.windowing {
            Windowing::Assign(window) => of_window(window, input),
            Windowing::Attached(_) => None,
        },
        _ => None,
    }
}

fn of_window(window: &WindowSpec, input: Option<&Schema>) -> Option<&'static str> {
    match window.kind {
        _ if is_proctime(input, window.time) => {
            Some("Processing time Window TableFunction is not supported yet.")
        }
        WindowKind::Session { .. } => {
            Some("Unaligned windows like session are not supported in batch mode yet.")
        }
        _ => None,
    }
}

fn is_proctime(schema: Option<&Schema>, column: usize) -> bool {
    let field = schema.and_then(|schema| schema.fields.get(column));
    field.is_some_and(|field| field.data_type.time_kind() == TimeKind::Proctime)
}
