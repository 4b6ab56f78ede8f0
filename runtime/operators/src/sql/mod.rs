//! The operators of Flink SQL: one for each [`NodeSpec`] that has rows come in.
//!
//! ```text
//!   NodeSpec, schemas --create--> Operator: Arrow batches with row kinds in and out, state in keyed tables
//! ```
//!
//! Invariants: an operator's output has the schema that the plan gives its node; row kinds are those of the node's changelog;
//! what is stored is named after the plan's columns and never after positions in memory.

mod aggregate;
pub mod calc;
mod columns;
pub mod correlate;
pub mod drop_update_before;
mod encoded;
pub mod expand;
pub mod first_by_time;
pub mod group_aggregate;
pub mod grouped_function;
mod interval_join;
pub mod join;
mod latest;
pub mod lookup_join;
mod materializer;
mod output;
pub mod over;
mod pairs;
mod rank;
mod row_by_row;
mod rows;
pub mod temporal_join;
pub mod temporal_sort;
#[cfg(test)]
#[allow(dead_code, reason = "each test uses a part")]
pub(crate) mod testing;
mod timed;
pub mod values;
pub mod watermark;
pub mod window;
pub mod window_join;
pub mod window_top;

use std::sync::Arc;

use thalweg_functions::EvaluationEnv;
use thalweg_plan::spec::WindowKind;
use thalweg_plan::{NodeSpec, Schema};

use crate::{Operator, OperatorContext, OperatorError};

/// What an operator is made of.
#[derive(Debug)]
pub struct SqlOperator<'a> {
    /// What it does.
    pub spec: &'a NodeSpec,
    /// The rows of each of its logical inputs.
    pub inputs: &'a [Schema],
    /// Its own rows.
    pub output: &'a Schema,
    /// What expressions need beside rows.
    pub env: Arc<EvaluationEnv>,
}

/// An operator for one subtask. Sources, sinks and unions have none: [`OperatorError::Input`]; a lookup join needs its table:
/// [`lookup_join::LookupJoin::new`].
pub fn create(
    operator: &SqlOperator<'_>,
    context: OperatorContext,
) -> Result<Box<dyn Operator>, OperatorError> {
    match operator.spec {
        NodeSpec::Calc { projection, filter } => {
            boxed(calc::Calc::new(projection, filter.as_ref(), operator, context))
        }
        NodeSpec::WatermarkAssigner(spec) => {
            boxed(watermark::WatermarkAssigner::new(spec, operator, context))
        }
        NodeSpec::Expand(sets) => boxed(expand::Expand::new(sets, operator, context)),
        NodeSpec::Correlate(spec) => boxed(correlate::Correlate::new(spec, operator, context)),
        NodeSpec::GroupAggregate(spec) => {
            boxed(group_aggregate::GroupAggregate::new(spec, operator, context))
        }
        NodeSpec::LocalGroupAggregate(spec) => {
            boxed(group_aggregate::LocalGroupAggregate::new(spec, operator, context))
        }
        NodeSpec::GlobalGroupAggregate(spec) => {
            boxed(group_aggregate::GroupAggregate::global(spec, operator, context))
        }
        NodeSpec::WindowTableFunction(spec) => match spec.kind {
            WindowKind::Session { .. } => boxed(window::SessionRows::new(spec, operator, context)),
            _ => boxed(window::WindowTableFunction::new(spec, operator, context)),
        },
        NodeSpec::WindowAggregate(spec) => boxed(window::WindowAggregate::new(spec, operator, context)),
        NodeSpec::OverAggregate(spec) => boxed(over::OverAggregate::new(spec, operator, context)),
        NodeSpec::Join(spec) => boxed(join::Join::new(spec, operator, context)),
        NodeSpec::IntervalJoin(spec) => boxed(interval_join::IntervalJoin::new(spec, operator, context)),
        NodeSpec::WindowRank { rank, window } => {
            boxed(window_top::WindowTop::rank(rank, *window, operator, context))
        }
        NodeSpec::WindowDeduplicate { deduplicate, window } => boxed(window_top::WindowTop::deduplicate(
            deduplicate,
            *window,
            operator,
            context,
        )),
        NodeSpec::Limit { offset, fetch } => {
            boxed(rank::Rank::first_rows(*offset, *fetch, operator, context))
        }
        NodeSpec::DropUpdateBefore => Ok(Box::new(drop_update_before::DropUpdateBefore::new(context))),
        NodeSpec::TemporalSort(keys) => boxed(temporal_sort::TemporalSort::new(keys, operator, context)),
        NodeSpec::TemporalJoin(spec) => boxed(temporal_join::TemporalJoin::new(spec, operator, context)),
        NodeSpec::WindowJoin(spec) => boxed(window_join::WindowJoin::new(spec, operator, context)),
        NodeSpec::Rank(spec) | NodeSpec::SortLimit(spec) => boxed(rank::Rank::new(spec, operator, context)),
        NodeSpec::Deduplicate(spec) => match spec.rowtime.filter(|_| !spec.keep_last) {
            Some(time) => boxed(first_by_time::FirstByTime::new(spec, time, operator, context)),
            None => boxed(latest::Latest::deduplicate(spec, operator, context)),
        },
        NodeSpec::ChangelogNormalize {
            keys,
            emit_update_before,
            state_ttl_ms,
        } => boxed(latest::Latest::normalize(
            keys,
            *emit_update_before,
            *state_ttl_ms,
            operator,
            context,
        )),
        NodeSpec::SinkMaterializer {
            primary_key,
            input_upsert_key,
            state_ttl_ms,
        } => boxed(materializer::SinkMaterializer::new(
            primary_key,
            input_upsert_key.as_deref(),
            *state_ttl_ms,
            operator,
            context,
        )),
        other => Err(OperatorError::Input {
            operator: context.operator_name.to_string(),
            message: format!("{other:?} is no operator of its own"),
        }),
    }
}

fn boxed<O: Operator + 'static>(made: Result<O, OperatorError>) -> Result<Box<dyn Operator>, OperatorError> {
    made.map(|operator| Box::new(operator) as Box<dyn Operator>)
}
