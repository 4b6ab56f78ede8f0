//! The functions of OVER: those of a row's place are DataFusion's, the others are aggregates over the frame.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::{WindowFunctionDefinition, WindowUDF};
use datafusion_functions_window::{cume_dist, lead_lag, ntile, rank, row_number};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Literal;
use thalweg_functions::Evaluator;
use thalweg_plan::spec::AggregateCall;
use thalweg_plan::{Expr, ExprKind, Node, NodeSpec};

use super::super::Lowering;
use super::super::aggregate::arguments;
use crate::columns::{self, column};
use crate::error::BatchError;
use crate::function::udaf;

/// A call as DataFusion wants it.
pub(super) struct Called {
    pub(super) definition: WindowFunctionDefinition,
    pub(super) args: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) distinct: bool,
}

/// A call over the input of `node`.
pub(super) fn called(
    lowering: &Lowering<'_>,
    node: &Node,
    call: &AggregateCall,
) -> Result<Called, BatchError> {
    let Some(function) = ranking(&call.function) else {
        let (function, distinct) = udaf(call, &lowering.env.functions)?;
        return Ok(Called {
            definition: WindowFunctionDefinition::AggregateUDF(function),
            args: arguments(call),
            distinct,
        });
    };
    let args = call.args.iter().enumerate();
    // The others look at the order, whatever a stream's plan hands them.
    let args = args.filter_map(|(place, arg)| match (call.function.as_str(), place) {
        ("LEAD", 0) => Some(Ok(column(*arg))),
        ("LEAD", 2) => Some(constant(lowering, node, call, *arg, false)),
        ("LEAD" | "NTILE", _) => Some(constant(lowering, node, call, *arg, true)),
        _ => None,
    });
    Ok(Called {
        definition: WindowFunctionDefinition::WindowUDF(function),
        args: args.collect::<Result<_, _>>()?,
        distinct: false,
    })
}

/// Functions of a row's place.
pub(crate) fn ranking(function: &str) -> Option<Arc<WindowUDF>> {
    Some(match function {
        "ROW_NUMBER" => row_number::row_number_udwf(),
        "RANK" => rank::rank_udwf(),
        "DENSE_RANK" => rank::dense_rank_udwf(),
        "PERCENT_RANK" => rank::percent_rank_udwf(),
        "CUME_DIST" => cume_dist::cume_dist_udwf(),
        "NTILE" => ntile::ntile_udwf(),
        "LEAD" => lead_lag::lead_udwf(),
        _ => return None,
    })
}

/// The constant that a column of the input is: DataFusion takes some arguments as those alone.
fn constant(
    lowering: &Lowering<'_>,
    node: &Node,
    call: &AggregateCall,
    arg: usize,
    is_number: bool,
) -> Result<Arc<dyn PhysicalExpr>, BatchError> {
    let no_constant = || {
        let what = format!("{} with an argument that is no constant", call.function);
        BatchError::Unsupported(what)
    };
    let value = match &lowering.input_node(node, 0)?.spec {
        NodeSpec::Calc { projection, .. } => projection.get(arg).filter(|expr| is_constant(expr)),
        _ => None,
    };
    let value = std::slice::from_ref(value.ok_or_else(no_constant)?);
    let none = Arc::new(Schema::empty());
    let row = columns::of_columns(&none, Vec::new(), 1).map_err(DataFusionError::from)?;
    let values = Evaluator::new(value, &none, Arc::clone(lowering.env))?.evaluate(&row)?;
    let value = ScalarValue::try_from_array(values.first().ok_or_else(no_constant)?, 0)?;
    let value = match is_number {
        true => value.cast_to(&DataType::Int64)?,
        false => value,
    };
    Ok(Arc::new(Literal::new(value)))
}

fn is_constant(expr: &Expr) -> bool {
    let mut columns = 0;
    expr.visit(&mut |expr| columns += usize::from(matches!(expr.kind, ExprKind::Column(_))));
    columns == 0
}
