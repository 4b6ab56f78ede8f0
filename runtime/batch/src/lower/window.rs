//! GROUP BY windows: windows become columns, then it is an ordinary group.
//!
//! ```text
//!   windows that are made here: WindowTableFunction adds window_start, window_end, window_time -> group by keys and those
//!   windows that rows have:     group by keys, window_start, window_end -> window_time = window_end less a millisecond
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, TimeUnit, TimestampMillisecondType};
use datafusion_common::Result;
use datafusion_physical_plan::ExecutionPlan;
use thalweg_functions::Evaluator;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{WindowAggregateSpec, WindowColumns, WindowProperty, WindowSpec, Windowing};
use thalweg_plan::{DataType, Expr, Field, Node, NodeSpec, Schema, TypeRoot};

use super::{Lowered, Lowering, aggregate};
use crate::columns;
use crate::error::{BatchError, external};
use crate::mapped::{MappedExec, picked};

/// The keys, the aggregates, the windows' properties.
pub(super) fn aggregated(lowering: &Lowering<'_>, node: &Node, spec: &WindowAggregateSpec) -> Lowered {
    let input = lowering.input(node, 0)?;
    let schema = lowering.input_schema(node, 0)?;
    let width = schema.fields.len();
    let (input, bounds) = match &spec.windowing {
        Windowing::Assign(window) => (
            with_windows(lowering, input, schema, window)?,
            vec![width, width + 1, width + 2],
        ),
        Windowing::Attached(window) => (input, vec![window.start, window.end]),
    };
    let keys: Vec<usize> = spec.keys.iter().chain(&bounds).copied().collect();
    let grouped = aggregate::aggregated(lowering, input, &keys, &spec.aggregates)?;
    let (first, calls) = (spec.keys.len(), spec.aggregates.len());
    let last = keys.len() + calls;
    let grouped = match &spec.windowing {
        Windowing::Attached(window) => with_time(lowering, grouped, first + 1, *window)?,
        Windowing::Assign(_) => grouped,
    };
    let property = |(property, _): &(WindowProperty, DataType)| match (property, &spec.windowing) {
        (WindowProperty::Start, _) => first,
        (WindowProperty::End, _) => first + 1,
        (WindowProperty::Time, Windowing::Assign(_)) => first + 2,
        (WindowProperty::Time, Windowing::Attached(_)) => last,
    };
    let places = (0..first)
        .chain(keys.len()..last)
        .chain(spec.properties.iter().map(property));
    let rows = picked(grouped, places.collect());
    Ok(typed(rows, &node.schema))
}

fn timestamp() -> DataType {
    DataType::not_null(TypeRoot::Timestamp(3, TimeKind::Regular))
}

/// Each row with each of its windows.
fn with_windows(
    lowering: &Lowering<'_>,
    input: Arc<dyn ExecutionPlan>,
    schema: &Schema,
    window: &WindowSpec,
) -> Lowered {
    let time = schema.fields.get(window.time);
    let time = time.ok_or_else(|| BatchError::Malformed("a window has no time".to_owned()))?;
    let mut fields = schema.fields.clone();
    fields.extend([
        Field::new("window_start", timestamp()),
        Field::new("window_end", timestamp()),
        Field::new("window_time", time.data_type.clone().materialized()),
    ]);
    let spec = NodeSpec::WindowTableFunction(window.clone());
    lowering.stepped(input, &spec, schema, &Schema { fields }, "WindowTableFunction")
}

/// One column more: the last instant of the window whose end is in this column.
fn with_time(
    lowering: &Lowering<'_>,
    input: Arc<dyn ExecutionPlan>,
    end: usize,
    window: WindowColumns,
) -> Lowered {
    let fields = input.schema();
    let mut types: Vec<ArrowType> = fields
        .fields()
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    let instant = DataType::nullable(TypeRoot::TimestampLtz(3, TimeKind::Regular));
    let last = ArrowType::Timestamp(TimeUnit::Millisecond, None);
    let local = columns::positional([&last]);
    let to_instant = match window.local_time {
        true => {
            let column = Expr::column(0, timestamp().with_nullable(true));
            let evaluator =
                Evaluator::new(&[column.cast(instant.clone())], &local, Arc::clone(lowering.env))?;
            types.push(instant.to_arrow());
            Some(Arc::new(evaluator))
        }
        false => {
            types.push(last);
            None
        }
    };
    let schema = columns::positional(&types);
    let to = Arc::clone(&schema);
    Ok(MappedExec::over("WindowTimeExec", input, schema, move || {
        let (to, local, to_instant) = (Arc::clone(&to), Arc::clone(&local), to_instant.clone());
        Box::new(move |batch| {
            let last = last_instant(batch.column(end))?;
            let time = match &to_instant {
                None => Some(last),
                Some(evaluator) => {
                    let rows = columns::of_columns(&local, vec![last], batch.num_rows())?;
                    evaluator.evaluate(&rows).map_err(external)?.pop()
                }
            };
            let columns = batch.columns().iter().cloned().chain(time).collect();
            Ok(columns::of_columns(&to, columns, batch.num_rows())?)
        })
    }))
}

fn last_instant(ends: &ArrayRef) -> Result<ArrayRef> {
    let ends = cast(ends, &ArrowType::Timestamp(TimeUnit::Millisecond, None))?;
    let last = ends
        .as_primitive::<TimestampMillisecondType>()
        .unary::<_, TimestampMillisecondType>(|end| end - 1);
    Ok(Arc::new(last))
}

/// The same rows with exactly the types of a plan's: timestamps may be of other precision.
fn typed(input: Arc<dyn ExecutionPlan>, schema: &Schema) -> Arc<dyn ExecutionPlan> {
    let to = columns::of_plan(schema);
    let same = |(have, want): (&Arc<arrow::datatypes::Field>, &Arc<arrow::datatypes::Field>)| {
        have.data_type() == want.data_type()
    };
    if input.schema().fields().iter().zip(to.fields()).all(same) {
        return input;
    }
    let schema = Arc::clone(&to);
    MappedExec::over("TypedExec", input, schema, move || {
        let to = Arc::clone(&to);
        Box::new(move |batch| {
            let columns = batch.columns().iter().zip(to.fields());
            let columns = columns.map(|(column, field)| cast(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(columns::of_columns(&to, columns, batch.num_rows())?)
        })
    })
}
