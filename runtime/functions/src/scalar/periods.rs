//! OVERLAPS, and CURRENT_WATERMARK, which is refused by name.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Int64Type};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::support::{any_nullable, booleans_of};
use crate::common_type::is_datetime;
use crate::operators;
use crate::registry::{Call, ScalarFunction, Signature, Value};

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "OVERLAPS",
        usage: "(timepoint, {timepoint | interval}) OVERLAPS (timepoint, {timepoint | interval})",
        infer: infer_overlaps,
        kernel: overlaps,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "CURRENT_WATERMARK",
        usage: "CURRENT_WATERMARK(rowtime)",
        infer: |_| Err("CURRENT_WATERMARK is not supported: expressions don't see watermarks".into()),
        kernel: |_| Err("is not supported".into()),
        is_deterministic: false,
    },
];

/// Start, end or length; and again.
fn infer_overlaps(args: &[Expr]) -> Result<Signature, String> {
    let wanted = "(start, end or interval, start, end or interval)";
    let is_interval =
        |root: &TypeRoot| matches!(root, TypeRoot::IntervalDaySecond | TypeRoot::IntervalYearMonth);
    let [a, b, c, d] = args else {
        return Err(wanted.into());
    };
    let (start, other) = (&a.data_type.root, &c.data_type.root);
    let same =
        |left: &TypeRoot, right: &TypeRoot| std::mem::discriminant(left) == std::mem::discriminant(right);
    let fits = |end: &TypeRoot| is_interval(end) || same(start, end);
    if !is_datetime(start) || !same(start, other) || !fits(&b.data_type.root) || !fits(&d.data_type.root) {
        return Err(wanted.into());
    }
    // One unit for all.
    let to = |arg: &Expr| DataType {
        root: match &arg.data_type.root {
            TypeRoot::Timestamp(..) => TypeRoot::Timestamp(9, TimeKind::Regular),
            TypeRoot::TimestampLtz(..) => TypeRoot::TimestampLtz(9, TimeKind::Regular),
            root => root.clone(),
        },
        nullable: arg.data_type.nullable,
    };
    Ok(Signature {
        args: args.iter().map(to).collect(),
        result: DataType {
            root: TypeRoot::Boolean,
            nullable: any_nullable(args),
        },
    })
}

/// The point of time behind an interval, or the given one.
fn end(call: &Call<'_>, place: usize) -> Result<Value, String> {
    let (start, end) = (&call.args[place - 1], &call.args[place]);
    let (start_type, end_type) = (&call.arg_types[place - 1], &call.arg_types[place]);
    if is_datetime(&end_type.root) {
        return Ok(end.clone());
    }
    let plus = operators::find("+").ok_or("there is no operator +")?;
    let args = [start.clone(), end.clone()];
    let array = (plus.kernel)(&Call {
        args: &args,
        rows: call.rows,
        arg_types: &[start_type.clone(), end_type.clone()],
        data_type: start_type,
        env: call.env,
    })?;
    Ok(match args.iter().all(Value::is_scalar) && array.len() == 1 {
        true => Value::Scalar(array),
        false => Value::Array(array),
    })
}

/// As numbers in the order of time.
fn numbers(value: &Value) -> Result<ArrayRef, String> {
    let array = match value.array().data_type() {
        ArrowType::Date32 | ArrowType::Time32(_) => cast(value.array(), &ArrowType::Int32),
        _ => Ok(Arc::clone(value.array())),
    };
    array
        .and_then(|array| cast(&array, &ArrowType::Int64))
        .map_err(|error| error.to_string())
}

/// Periods whose ends are before their starts are turned around; those that touch overlap, as in Flink.
fn overlaps(call: &Call<'_>) -> Result<ArrayRef, String> {
    let [start, _, other_start, _] = call.args else {
        return Err("four arguments are needed".into());
    };
    let values = [start.clone(), end(call, 1)?, other_start.clone(), end(call, 3)?];
    let numbers = [
        numbers(&values[0])?,
        numbers(&values[1])?,
        numbers(&values[2])?,
        numbers(&values[3])?,
    ];
    let at = |place: usize, row: usize| {
        let array = numbers[place].as_primitive::<Int64Type>();
        let row = values[place].index(row);
        arrow::array::Array::is_valid(array, row).then(|| array.value(row))
    };
    booleans_of(call.rows, |row| {
        let (Some(a), Some(b), Some(c), Some(d)) = (at(0, row), at(1, row), at(2, row), at(3, row)) else {
            return Ok(None);
        };
        Ok(Some(a.max(b) >= c.min(d) && c.max(d) >= a.min(b)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::{date, timestamp};

    #[test]
    fn periods_are_compared() {
        let day = |day: &str| timestamp(&format!("2024-01-{day} 00:00:00"), 3);
        check(&[
            ("OVERLAPS", &[day("01"), day("03"), day("02"), day("05")], "TRUE"),
            ("OVERLAPS", &[day("03"), day("01"), day("03"), day("05")], "TRUE"),
            ("OVERLAPS", &[day("01"), day("02"), day("03"), day("05")], "FALSE"),
            (
                "OVERLAPS",
                &[date("2024-01-01"), date("2024-01-02"), day("01"), day("02")],
                "error: OVERLAPS",
            ),
            ("CURRENT_WATERMARK", &[day("01")], "error: not supported"),
        ]);
    }
}
