//! Columns of a table as the writer of Parquet pages takes them: everything may be null, timestamps in the form of the file.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, ListArray, MapArray, StructArray};
use arrow::buffer::Buffer;
use arrow::datatypes::{
    DataType as Arrow, Field as ArrowField, FieldRef, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;

use super::conform::timestamps;
use super::schema::{Timestamps, Unit};

const NANOS_OF_DAY: i64 = 86_400_000_000_000;
/// The Julian day of 1970-01-01.
const JULIAN_EPOCH: i64 = 2_440_588;

/// The type in which a column is handed over.
pub(super) fn plain_type(data_type: &Arrow, form: Timestamps) -> Arrow {
    let field = |field: &FieldRef, nullable: bool| {
        Arc::new(ArrowField::new(
            field.name(),
            plain_type(field.data_type(), form),
            nullable,
        ))
    };
    match data_type {
        Arrow::Struct(fields) => Arrow::Struct(fields.iter().map(|inner| field(inner, true)).collect()),
        Arrow::List(item) => Arrow::List(field(item, true)),
        Arrow::Map(entries, sorted) => {
            let pair = match entries.data_type() {
                // Keys are there, values may be null.
                Arrow::Struct(pair) => pair
                    .iter()
                    .enumerate()
                    .map(|(at, inner)| field(inner, at > 0))
                    .collect(),
                _ => arrow::datatypes::Fields::empty(),
            };
            Arrow::Map(
                Arc::new(ArrowField::new(entries.name(), Arrow::Struct(pair), false)),
                *sorted,
            )
        }
        Arrow::Timestamp(..) => match form {
            Timestamps::Int96 => Arrow::FixedSizeBinary(12),
            Timestamps::Int64(unit) => Arrow::Timestamp(time_unit(unit), None),
        },
        other => other.clone(),
    }
}

fn time_unit(unit: Unit) -> TimeUnit {
    match unit {
        Unit::Millis => TimeUnit::Millisecond,
        Unit::Micros => TimeUnit::Microsecond,
        Unit::Nanos => TimeUnit::Nanosecond,
    }
}

/// The same column in [`plain_type`]; the message says what has no form.
pub(super) fn plain(array: &ArrayRef, wanted: &Arrow) -> Result<ArrayRef, String> {
    let failed = |error: ArrowError| error.to_string();
    match (array.data_type(), wanted) {
        (Arrow::Struct(_), Arrow::Struct(fields)) => {
            let row = array.as_struct();
            let columns = row.columns().iter().zip(fields);
            let columns = columns
                .map(|(column, field)| plain(column, field.data_type()))
                .collect::<Result<_, _>>()?;
            let row =
                StructArray::try_new_with_length(fields.clone(), columns, row.nulls().cloned(), row.len());
            Ok(Arc::new(row.map_err(failed)?))
        }
        (Arrow::List(_), Arrow::List(item)) => {
            let list = array.as_list::<i32>();
            let values = plain(list.values(), item.data_type())?;
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
            let pairs: ArrayRef = Arc::new(map.entries().clone());
            let pairs = plain(&pairs, entries.data_type())?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            let map = MapArray::try_new(
                entries.clone(),
                offsets,
                pairs.as_struct().clone(),
                nulls,
                *sorted,
            );
            Ok(Arc::new(map.map_err(failed)?))
        }
        (Arrow::Timestamp(unit, _), Arrow::FixedSizeBinary(_)) => int96(array, *unit),
        (Arrow::Timestamp(from, _), Arrow::Timestamp(to, _)) => timestamps(array, *from, *to, wanted),
        _ => Ok(Arc::clone(array)),
    }
}

/// Nanoseconds of the day, 8 bytes, and the Julian day, 4 bytes; the lowest byte first.
fn int96(array: &ArrayRef, unit: TimeUnit) -> Result<ArrayRef, String> {
    let (values, a_day) = match unit {
        TimeUnit::Millisecond => (
            array.as_primitive::<TimestampMillisecondType>().values(),
            86_400_000,
        ),
        TimeUnit::Microsecond => (
            array.as_primitive::<TimestampMicrosecondType>().values(),
            86_400_000_000,
        ),
        TimeUnit::Nanosecond => (
            array.as_primitive::<TimestampNanosecondType>().values(),
            NANOS_OF_DAY,
        ),
        TimeUnit::Second => return Err("timestamps of seconds are no column".to_owned()),
    };
    let mut bytes = Vec::with_capacity(values.len() * 12);
    for value in values.iter() {
        let nanos = value.rem_euclid(a_day) * (NANOS_OF_DAY / a_day);
        // Days of 64-bit milliseconds may not fit: Flink cuts them off, too, and no SQL timestamp is one of them.
        let day = (value.div_euclid(a_day) + JULIAN_EPOCH) as i32;
        bytes.extend_from_slice(&nanos.to_le_bytes());
        bytes.extend_from_slice(&day.to_le_bytes());
    }
    let array = FixedSizeBinaryArray::try_new(12, Buffer::from_vec(bytes), array.nulls().cloned());
    Ok(Arc::new(array.map_err(|error| error.to_string())?))
}
