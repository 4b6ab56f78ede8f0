//! OVER: rows sorted by partition and order, then DataFusion's window functions.
//!
//! ```text
//!   shared out by partition -> sorted -> functions of rows up to the current one: BoundedWindowAggExec, row by row
//!                                        of the whole partition (NTILE ..):        WindowAggExec, in memory
//! ```

mod called;

use std::sync::Arc;

use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion_common::ScalarValue;
use datafusion_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion_physical_plan::windows::{
    BoundedWindowAggExec, WindowAggExec, WindowExpr, create_window_expr,
};
use datafusion_physical_plan::{ExecutionPlan, InputOrderMode};
use thalweg_plan::Node;
use thalweg_plan::spec::{AggregateCall, Frame, OverAggregateSpec, SortKey};

use super::partitions::{gathered, shared_out};
use super::{Lowered, Lowering, sort};
use crate::budget::Appetite;
use crate::columns::{self, column};
use crate::error::BatchError;
use crate::mapped::{MappedExec, numbered};
use called::called;
pub(crate) use called::ranking;

/// The input's columns, then the aggregates'.
pub(super) fn aggregated(lowering: &Lowering<'_>, node: &Node, spec: &OverAggregateSpec) -> Lowered {
    let input = lowering.input(node, 0)?;
    let fields = input.schema();
    let width = fields.fields().len();
    let keys: Vec<SortKey> = sort::by(&spec.partition)
        .chain(spec.order.iter().copied())
        .collect();
    let input = shared_out(numbered(input), &spec.partition, lowering.partitions)?;
    let sorted = sort::sorted_by_number(lowering, input, &keys, None);
    let over = Over { lowering, node, spec };
    let mut expressions = Vec::new();
    let mut types: Vec<DataType> = fields.fields().iter().map(|it| it.data_type().clone()).collect();
    for (frame, calls) in &spec.groups {
        for call in calls {
            let name = columns::name(width + 1 + expressions.len());
            expressions.push(over.expression(&sorted, *frame, call, name)?);
            types.push(call.data_type.to_arrow());
        }
    }
    let row_by_row = expressions.iter().all(|call| call.uses_bounded_memory());
    let windowed: Arc<dyn ExecutionPlan> = match row_by_row {
        true => Arc::new(BoundedWindowAggExec::try_new(
            expressions,
            sorted,
            InputOrderMode::Sorted,
            false,
        )?),
        false => Arc::new(WindowAggExec::try_new(expressions, sorted, false)?),
    };
    let windowed = lowering.budget.of(Appetite::Holds, windowed);
    Ok(gathered(without_number(windowed, width, &types)))
}

/// The input's columns and the results, with exactly the plan's types.
fn without_number(input: Arc<dyn ExecutionPlan>, width: usize, types: &[DataType]) -> Arc<dyn ExecutionPlan> {
    let schema = columns::positional(types);
    let to = Arc::clone(&schema);
    MappedExec::over("OverExec", input, schema, move || {
        let to = Arc::clone(&to);
        Box::new(move |batch| {
            let (rows, results) = batch.columns().split_at(width);
            let columns = rows.iter().chain(results.iter().skip(1)).zip(to.fields());
            let columns = columns.map(|(column, field)| match column.data_type() == field.data_type() {
                true => Ok(Arc::clone(column)),
                false => cast(column, field.data_type()),
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(columns::of_columns(&to, columns, batch.num_rows())?)
        })
    })
}

struct Over<'a> {
    lowering: &'a Lowering<'a>,
    node: &'a Node,
    spec: &'a OverAggregateSpec,
}

impl Over<'_> {
    fn expression(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        frame: Frame,
        call: &AggregateCall,
        name: String,
    ) -> Result<Arc<dyn WindowExpr>, BatchError> {
        let call = AggregateCall {
            retracts: matches!(frame, Frame::Rows(Some(_)) | Frame::Range(Some(_))),
            ..call.clone()
        };
        let function = called(self.lowering, self.node, &call)?;
        let partition: Vec<Arc<dyn PhysicalExpr>> =
            self.spec.partition.iter().map(|key| column(*key)).collect();
        // To Flink's CUME_DIST no rows are equal.
        let by_number = (call.function == "CUME_DIST").then(|| SortKey {
            column: input.schema().fields().len() - 1,
            descending: false,
            nulls_first: true,
        });
        let order = self
            .spec
            .order
            .iter()
            .chain(&by_number)
            .map(|key| PhysicalSortExpr {
                expr: column(key.column),
                options: SortOptions {
                    descending: key.descending,
                    nulls_first: key.nulls_first,
                },
            });
        Ok(create_window_expr(
            &function.definition,
            name,
            &function.args,
            &partition,
            &order.collect::<Vec<_>>(),
            Arc::new(window_frame(frame)),
            input.schema(),
            false,
            function.distinct,
            call.filter.map(column),
        )?)
    }
}

fn window_frame(frame: Frame) -> WindowFrame {
    let (units, start) = match frame {
        Frame::Rows(rows) => (WindowFrameUnits::Rows, ScalarValue::UInt64(rows)),
        Frame::Range(None) => (WindowFrameUnits::Range, ScalarValue::Null),
        Frame::Range(Some(millis)) => {
            let nanos = i64::try_from(millis)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000_000);
            let before = IntervalMonthDayNano::new(0, 0, nanos);
            (
                WindowFrameUnits::Range,
                ScalarValue::IntervalMonthDayNano(Some(before)),
            )
        }
    };
    WindowFrame::new_bounds(
        units,
        WindowFrameBound::Preceding(start),
        WindowFrameBound::CurrentRow,
    )
}
