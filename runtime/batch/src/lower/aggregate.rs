//! GROUP BY.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::expressions::Literal;
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion_physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use thalweg_functions::user::UserFunctions;
use thalweg_plan::spec::AggregateCall;

use super::partitions::{gathered, shared_out};
use super::{Lowered, Lowering};
use crate::budget::Appetite;
use crate::columns::{column, name};
use crate::error::BatchError;
use crate::function::udaf;
use crate::mapped::picked;

/// The keys, then a column a call. Without keys there is one row, also of no rows.
pub(super) fn aggregated(
    lowering: &Lowering<'_>,
    input: Arc<dyn ExecutionPlan>,
    keys: &[usize],
    calls: &[AggregateCall],
) -> Lowered {
    let input = shared_out(input, keys, lowering.partitions)?;
    let mode = match input.output_partitioning().partition_count() {
        1 => AggregateMode::Single,
        _ => AggregateMode::SinglePartitioned,
    };
    // The same rows again: a group without a key and without calls is a row.
    let group_by = keys.iter().map(|key| (column(*key), name(*key))).collect();
    let schema = input.schema();
    let expressions = calls
        .iter()
        .enumerate()
        .map(|(place, call)| expression(&input, place, call, &lowering.env.functions));
    let filters = calls.iter().map(|call| call.filter.map(column));
    let aggregate = AggregateExec::try_new(
        mode,
        PhysicalGroupBy::new_single(group_by),
        expressions.collect::<Result<_, _>>()?,
        filters.collect(),
        input,
        schema,
    )?;
    let groups = gathered(lowering.budget.of(Appetite::Spills, Arc::new(aggregate)));
    Ok(picked(groups, (0..keys.len() + calls.len()).collect()))
}

fn expression(
    input: &Arc<dyn ExecutionPlan>,
    place: usize,
    call: &AggregateCall,
    functions: &Arc<UserFunctions>,
) -> Result<Arc<AggregateFunctionExpr>, BatchError> {
    let (function, distinct) = udaf(call, functions)?;
    let built = AggregateExprBuilder::new(function, arguments(call))
        .schema(input.schema())
        .alias(format!("a{place}"))
        .with_distinct(distinct)
        .build()?;
    Ok(Arc::new(built))
}

/// DataFusion wants one at least.
pub(super) fn arguments(call: &AggregateCall) -> Vec<Arc<dyn PhysicalExpr>> {
    match call.args.is_empty() {
        true => vec![Arc::new(Literal::new(ScalarValue::Int64(Some(1))))],
        false => call.args.iter().map(|arg| column(*arg)).collect(),
    }
}
