//! Metadata columns: Flink's KafkaDynamicSource.ReadableMetadata and KafkaDynamicSink.WritableMetadata.
//!
//! What the value's format tells of a message has keys that begin with [`VALUE`].

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType as Arrow, Int64Type, TimeUnit};
use thalweg_formats::Format;
use thalweg_plan::data_type::{MAX_LENGTH, TimeKind};
use thalweg_plan::{DataType, TypeRoot};

use crate::kafka::{MetadataColumn, NO_TIMESTAMP};
use crate::table::metadata::owned;

/// What keys of the value's format begin with.
pub(super) const VALUE: &str = "value.";
pub(super) const TIMESTAMP: &str = "timestamp";
pub(super) const HEADERS: &str = "headers";

/// Keys of a record's own metadata, and what they are in the inner source.
fn of_record() -> [(&'static str, DataType, MetadataColumn); 7] {
    let not_null = DataType::not_null;
    [
        (
            "topic",
            DataType::string().with_nullable(false),
            MetadataColumn::Topic,
        ),
        ("partition", not_null(TypeRoot::Int), MetadataColumn::Partition),
        (HEADERS, headers().with_nullable(false), MetadataColumn::Headers),
        (
            "leader-epoch",
            DataType::nullable(TypeRoot::Int),
            MetadataColumn::LeaderEpoch,
        ),
        ("offset", not_null(TypeRoot::BigInt), MetadataColumn::Offset),
        (
            TIMESTAMP,
            timestamp().with_nullable(false),
            MetadataColumn::Timestamp,
        ),
        (
            "timestamp-type",
            DataType::string().with_nullable(false),
            MetadataColumn::TimestampType,
        ),
    ]
}

fn timestamp() -> DataType {
    DataType::nullable(TypeRoot::TimestampLtz(3, TimeKind::Regular))
}

/// A record's headers.
pub(super) fn headers() -> DataType {
    let bytes = DataType::nullable(TypeRoot::VarBinary(MAX_LENGTH));
    DataType::nullable(TypeRoot::Map(Box::new(DataType::string()), Box::new(bytes)))
}

/// What can be read beside a table's rows.
pub(super) fn readable(value: &Format) -> Vec<(String, DataType)> {
    let of_value = value.metadata().into_iter();
    let of_value = of_value.map(|(key, data_type)| (format!("{VALUE}{key}"), data_type));
    let of_record = of_record().map(|(key, data_type, _)| (key, data_type));
    owned(&of_record).into_iter().chain(of_value).collect()
}

/// What can be written beside them.
pub(super) fn writable() -> Vec<(String, DataType)> {
    owned(&[(HEADERS, headers()), (TIMESTAMP, timestamp())])
}

/// The inner source's column of a key.
pub(super) fn column_of(key: &str) -> Option<MetadataColumn> {
    let found = of_record().into_iter().find(|(name, ..)| *name == key);
    found.map(|(.., column)| column)
}

/// A column of the inner source as [`readable`] says it is. A record without a timestamp is at -1, as the Java client says.
pub(super) fn converted(column: &ArrayRef, declared: &Arrow) -> Option<ArrayRef> {
    if column.data_type() == declared {
        return Some(Arc::clone(column));
    }
    let Arrow::Timestamp(TimeUnit::Millisecond, zone) = declared else {
        return None;
    };
    let times = column.as_primitive_opt::<Int64Type>()?;
    let millis = times.values().iter().map(|time| match *time {
        NO_TIMESTAMP => -1,
        time => time,
    });
    Some(Arc::new(
        TimestampMillisecondArray::from_iter_values(millis).with_timezone_opt(zone.clone()),
    ))
}
