//! The watermark of a source that makes watermarks by split: its expression, evaluated over the source's rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use thalweg_connectors::ConnectorError;
use thalweg_connectors::table::RowWatermarks;
use thalweg_functions::{EvaluationEnv, EvaluationError, Evaluator};
use thalweg_plan::Schema;
use thalweg_plan::spec::WatermarkSpec;

/// The watermark behind each row of the source's columns.
pub(crate) fn of_rows(
    spec: &WatermarkSpec,
    columns: &Schema,
    env: &Arc<EvaluationEnv>,
) -> Result<RowWatermarks, EvaluationError> {
    let schema = columns.to_arrow();
    let evaluator = Evaluator::new(std::slice::from_ref(&spec.expression), &schema, Arc::clone(env))?;
    Ok(Arc::new(move |batch: &RecordBatch| {
        let values = evaluator
            .evaluate(batch)
            .map_err(|error| ConnectorError::Malformed(format!("the watermark of a row: {error}")))?;
        let millis = values.first().and_then(millis);
        millis.ok_or_else(|| ConnectorError::Malformed("the watermark of a row is no time".to_owned()))
    }))
}

/// Times in milliseconds since the epoch, rounded down.
fn millis(column: &ArrayRef) -> Option<Int64Array> {
    let divided = |values: &Int64Array, divisor: i64| values.unary(|value: i64| value.div_euclid(divisor));
    let DataType::Timestamp(unit, _) = column.data_type() else {
        return None;
    };
    Some(match unit {
        TimeUnit::Second => return None,
        TimeUnit::Millisecond => column
            .as_primitive_opt::<TimestampMillisecondType>()?
            .reinterpret_cast(),
        TimeUnit::Microsecond => divided(
            &column
                .as_primitive_opt::<TimestampMicrosecondType>()?
                .reinterpret_cast(),
            1_000,
        ),
        TimeUnit::Nanosecond => divided(
            &column
                .as_primitive_opt::<TimestampNanosecondType>()?
                .reinterpret_cast(),
            1_000_000,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{TimestampMillisecondArray, TimestampNanosecondArray};

    #[test]
    fn times_of_any_unit_are_milliseconds_rounded_down_and_nulls_stay() {
        let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![
            Some(1_999_999),
            Some(-1),
            None,
        ]));
        assert_eq!(
            millis(&nanos),
            Some(Int64Array::from(vec![Some(1), Some(-1), None]))
        );
        let same: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![5]));
        assert_eq!(millis(&same), Some(Int64Array::from(vec![5])));
        let other: ArrayRef = Arc::new(Int64Array::from(vec![5]));
        assert_eq!(millis(&other), None);
    }
}
