//! Rows as columns and back; what a changelog leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType as Arrow, Decimal128Type, Field as ArrowField, Float32Type, Float64Type, Int8Type, Int64Type,
};
use thalweg_plan::Schema;
use thalweg_types::element::RowKind;
use thalweg_types::{StreamBatch, WatermarkCut};

use super::Emitted;
use super::value::{Row, Value};

/// How often each row is there behind a changelog. Panics if one is taken back that isn't.
pub(crate) fn materialize(changelog: &[(RowKind, Row)]) -> BTreeMap<Row, i64> {
    let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
    for (kind, row) in changelog {
        let count = rows.entry(row.clone()).or_default();
        match kind {
            RowKind::Insert | RowKind::UpdateAfter => *count += 1,
            RowKind::UpdateBefore | RowKind::Delete => *count -= 1,
        }
        assert!(
            *count >= 0,
            "{row:?} is taken back, but isn't there: {changelog:?}"
        );
        if *count == 0 {
            rows.remove(row);
        }
    }
    rows
}

/// The rows behind an upsert changelog (without -U) whose rows are identified by these columns.
pub(crate) fn upserted(changelog: &[(RowKind, Row)], key: &[usize]) -> BTreeMap<Row, Row> {
    let mut rows = BTreeMap::new();
    for (kind, row) in changelog {
        let key: Row = key.iter().map(|column| row[*column].clone()).collect();
        match kind {
            RowKind::Insert | RowKind::UpdateAfter => {
                rows.insert(key, row.clone());
            }
            RowKind::UpdateBefore | RowKind::Delete => {
                rows.remove(&key);
            }
        }
    }
    rows
}

pub(super) fn history(batch: &StreamBatch) -> Vec<Emitted> {
    let mut history = Vec::new();
    for row in 0..=batch.num_rows() {
        let cuts = batch.watermarks.iter().filter(|cut| cut.row as usize == row);
        history.extend(cuts.map(|cut| Emitted::Watermark(cut.timestamp_ms)));
        if row < batch.num_rows() {
            history.push(Emitted::Row(kind_of(batch, row), row_of(&batch.rows, row)));
        }
    }
    history
}

fn kind_of(batch: &StreamBatch, row: usize) -> RowKind {
    match batch.kinds.as_ref().map_or(0, |kinds| kinds.value(row)) {
        0 => RowKind::Insert,
        1 => RowKind::UpdateBefore,
        2 => RowKind::UpdateAfter,
        3 => RowKind::Delete,
        other => panic!("{other} is no row kind"),
    }
}

/// The values of a row.
pub(crate) fn row_of(rows: &RecordBatch, row: usize) -> Row {
    rows.columns()
        .iter()
        .map(|column| value_of(column, row))
        .collect()
}

/// The value of a column.
pub(crate) fn value_of(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    let list = |values: ArrayRef| Value::List((0..values.len()).map(|row| value_of(&values, row)).collect());
    match column.data_type() {
        Arrow::Boolean => Value::Bool(column.as_boolean().value(row)),
        Arrow::Utf8 => Value::Text(column.as_string::<i32>().value(row).to_owned()),
        Arrow::Binary => {
            Value::Text(String::from_utf8_lossy(column.as_binary::<i32>().value(row)).into_owned())
        }
        Arrow::Float64 => Value::Double(column.as_primitive::<Float64Type>().value(row)),
        Arrow::Float32 => Value::Double(f64::from(column.as_primitive::<Float32Type>().value(row))),
        Arrow::Decimal128(..) => Value::Decimal(column.as_primitive::<Decimal128Type>().value(row)),
        Arrow::List(_) => list(column.as_list::<i32>().value(row)),
        Arrow::Map(..) => list(Arc::new(column.as_map().value(row))),
        Arrow::Struct(_) => {
            let fields = column.as_struct().columns().iter();
            Value::List(fields.map(|field| value_of(field, row)).collect())
        }
        Arrow::Int8 => Value::Int(i64::from(column.as_primitive::<Int8Type>().value(row))),
        Arrow::Time32(_) | Arrow::Date32 => {
            let values = cast(&cast(column, &Arrow::Int32).unwrap(), &Arrow::Int64).unwrap();
            Value::Int(values.as_primitive::<Int64Type>().value(row))
        }
        _ => {
            let values = cast(column, &Arrow::Int64).unwrap();
            Value::Int(values.as_primitive::<Int64Type>().value(row))
        }
    }
}

/// Rows of a schema with their kinds and the watermarks between them.
pub(crate) fn batch_of(schema: &Schema, rows: &[(RowKind, Row)], cuts: &[(usize, i64)]) -> StreamBatch {
    let columns = schema.fields.iter().enumerate().map(|(column, field)| {
        let values: Vec<&Value> = rows.iter().map(|(_, row)| &row[column]).collect();
        array_of(&field.data_type.to_arrow(), &values)
    });
    let kinds = rows.iter().any(|(kind, _)| *kind != RowKind::Insert);
    let kinds = kinds.then(|| Int8Array::from_iter_values(rows.iter().map(|(kind, _)| *kind as i8)));
    StreamBatch {
        kinds,
        watermarks: cuts
            .iter()
            .map(|(row, timestamp_ms)| WatermarkCut {
                row: *row as u32,
                timestamp_ms: *timestamp_ms,
            })
            .collect(),
        ..StreamBatch::new(RecordBatch::try_new(schema.to_arrow(), columns.collect()).unwrap())
    }
}

/// Values as a column.
pub(crate) fn array_of(data_type: &Arrow, values: &[&Value]) -> ArrayRef {
    let ints = || values.iter().map(|value| value.int()).collect::<Int64Array>();
    match data_type {
        Arrow::Boolean => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        }))),
        Arrow::Utf8 => Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
            Value::Text(value) => Some(value.as_str()),
            _ => None,
        }))),
        Arrow::Binary => Arc::new(BinaryArray::from_iter(values.iter().map(|value| match value {
            Value::Text(value) => Some(value.as_bytes()),
            _ => None,
        }))),
        Arrow::Float64 | Arrow::Float32 => {
            let doubles = values.iter().map(|value| match value {
                Value::Double(value) => Some(*value),
                _ => None,
            });
            let doubles: Float64Array = doubles.collect();
            match data_type {
                Arrow::Float64 => Arc::new(doubles),
                _ => Arc::new(
                    doubles
                        .iter()
                        .map(|value| value.map(|value| value as f32))
                        .collect::<Float32Array>(),
                ),
            }
        }
        Arrow::Decimal128(precision, scale) => {
            let unscaled = values.iter().map(|value| match value {
                Value::Decimal(value) => Some(*value),
                Value::Int(value) => Some(i128::from(*value)),
                _ => None,
            });
            let decimals: Decimal128Array = unscaled.collect();
            Arc::new(decimals.with_precision_and_scale(*precision, *scale).unwrap())
        }
        Arrow::List(item) => list_of(item, values),
        Arrow::Time32(_) | Arrow::Date32 => {
            let ints: Int32Array = ints()
                .iter()
                .map(|value| value.map(|value| value as i32))
                .collect();
            cast(&ints, data_type).unwrap()
        }
        _ => cast(&ints(), data_type).unwrap(),
    }
}

fn list_of(item: &Arc<ArrowField>, values: &[&Value]) -> ArrayRef {
    let items = |value: &Value| match value {
        Value::List(items) => items.clone(),
        _ => Vec::new(),
    };
    let all: Vec<Value> = values.iter().flat_map(|value| items(value)).collect();
    let lengths = OffsetBuffer::from_lengths(values.iter().map(|value| items(value).len()));
    let nulls = values.iter().map(|value| !matches!(value, Value::Null)).collect();
    let all = array_of(item.data_type(), &all.iter().collect::<Vec<_>>());
    Arc::new(ListArray::new(Arc::clone(item), lengths, all, Some(nulls)))
}
