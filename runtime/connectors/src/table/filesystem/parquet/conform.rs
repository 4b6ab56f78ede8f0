//! Columns as a file has them, to those that a table declares.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, MapArray, PrimitiveArray, StructArray,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType as Arrow, FieldRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use arrow::error::ArrowError;

/// The same values as another type: of rows the fields by name, of maps the entries by place. The message says what doesn't fit.
pub(super) fn conform(array: &ArrayRef, wanted: &Arrow) -> Result<ArrayRef, String> {
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    let failed = |error: ArrowError| error.to_string();
    match (array.data_type(), wanted) {
        (Arrow::Null, _) => Ok(new_null_array(wanted, array.len())),
        (Arrow::Struct(_), Arrow::Struct(fields)) => {
            let row = array.as_struct();
            let columns = fields
                .iter()
                .map(|field| child(row, field))
                .collect::<Result<_, _>>()?;
            let row =
                StructArray::try_new_with_length(fields.clone(), columns, row.nulls().cloned(), row.len());
            Ok(Arc::new(row.map_err(failed)?))
        }
        (Arrow::List(_), Arrow::List(item)) => {
            let list = array.as_list::<i32>();
            let values = conform(list.values(), item.data_type())?;
            let list = ListArray::try_new(
                item.clone(),
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            );
            Ok(Arc::new(list.map_err(failed)?))
        }
        (Arrow::Map(..), Arrow::Map(entries, sorted)) => {
            let map = array.as_map();
            let Arrow::Struct(pair) = entries.data_type() else {
                return Err("a map has no entries".to_owned());
            };
            let columns = map.entries().columns().iter().zip(pair);
            let columns = columns.map(|(column, field)| conform(column, field.data_type()));
            let pairs = StructArray::try_new(pair.clone(), columns.collect::<Result<_, _>>()?, None);
            let offsets = map.offsets().clone();
            let nulls = map.nulls().cloned();
            let map = MapArray::try_new(entries.clone(), offsets, pairs.map_err(failed)?, nulls, *sorted);
            Ok(Arc::new(map.map_err(failed)?))
        }
        (Arrow::Timestamp(from, _), Arrow::Timestamp(to, _)) => timestamps(array, *from, *to, wanted),
        (Arrow::Date32 | Arrow::Time32(_), Arrow::Int32)
        | (Arrow::Int32, Arrow::Date32 | Arrow::Time32(_)) => {
            let data = array.to_data().into_builder().data_type(wanted.clone()).build();
            Ok(arrow::array::make_array(data.map_err(failed)?))
        }
        _ => {
            let strict = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            cast_with_options(array, wanted, &strict).map_err(failed)
        }
    }
}

fn child(row: &StructArray, field: &FieldRef) -> Result<ArrayRef, String> {
    match row.column_by_name(field.name()) {
        Some(column) => conform(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), row.len())),
    }
    .map_err(|what| format!("field {:?}: {what}", field.name()))
}

fn nanos(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// In another unit: what is finer is cut off, as in Flink downwards.
pub(super) fn timestamps(
    array: &ArrayRef,
    from: TimeUnit,
    to: TimeUnit,
    wanted: &Arrow,
) -> Result<ArrayRef, String> {
    let (from, target) = (nanos(from), nanos(to));
    let convert = |value: i64| match from >= target {
        true => value.checked_mul(from / target),
        false => Some(value.div_euclid(target / from)),
    };
    // Timestamps of any unit are 64-bit numbers.
    let data = array.to_data().into_builder().data_type(Arrow::Int64).build();
    let data = data.map_err(|error| error.to_string())?;
    let values = PrimitiveArray::<arrow::datatypes::Int64Type>::from(data);
    match to {
        TimeUnit::Millisecond => converted::<TimestampMillisecondType>(&values, convert, wanted),
        TimeUnit::Microsecond => converted::<TimestampMicrosecondType>(&values, convert, wanted),
        TimeUnit::Nanosecond => converted::<TimestampNanosecondType>(&values, convert, wanted),
        TimeUnit::Second => Err("timestamps of seconds are no column".to_owned()),
    }
}

fn converted<T: ArrowPrimitiveType<Native = i64>>(
    values: &PrimitiveArray<arrow::datatypes::Int64Type>,
    convert: impl Fn(i64) -> Option<i64>,
    wanted: &Arrow,
) -> Result<ArrayRef, String> {
    let too_large = |value: i64| format!("the timestamp {value} of the file is out of the range of {wanted}");
    let column = values.try_unary::<_, T, String>(|value| convert(value).ok_or_else(|| too_large(value)))?;
    Ok(Arc::new(column.with_data_type(wanted.clone())))
}
