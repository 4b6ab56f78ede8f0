//! Tables in words, for metadata: Flink SQL's names of types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use thalweg_proto::state::v1::{Distribution, TableSchema};

use crate::{ListDistribution, TableDescriptor, TableKind};

pub(crate) fn table_schema(table: &TableDescriptor) -> TableSchema {
    let columns = |fields: &[FieldRef]| fields.iter().map(|field| column(field)).collect();
    TableSchema {
        name: table.name.clone(),
        kind: kind_name(table.kind).to_owned(),
        key_columns: columns(&table.key),
        sub_columns: columns(&table.sub_key),
        value_columns: columns(&table.value),
        ttl_ms: table
            .ttl
            .map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
    }
}

pub(crate) fn kind_name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Value => "value",
        TableKind::List => "list",
        TableKind::Map => "map",
        TableKind::Timers => "timers",
        TableKind::Window => "window",
    }
}

fn column(field: &Field) -> String {
    let null = if field.is_nullable() { "" } else { " NOT NULL" };
    format!("{}: {}{null}", field.name(), type_name(field.data_type()))
}

fn type_name(data_type: &DataType) -> String {
    let digits = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    let nested = |field: &Arc<Field>| type_name(field.data_type());
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".to_owned(),
        DataType::FixedSizeBinary(length) => format!("BINARY({length})"),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(unit)),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", digits(unit)),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("ARRAY<{}>", nested(item))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", nested(&fields[0]), nested(&fields[1]))
            }
            other => other.to_string(),
        },
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", field.name(), nested(field)))
                .collect();
            format!("ROW<{}>", fields.join(", "))
        }
        DataType::Dictionary(_, values) => type_name(values),
        other => other.to_string(),
    }
}

pub(crate) fn distribution_code(distribution: ListDistribution) -> Distribution {
    match distribution {
        ListDistribution::Split => Distribution::Split,
        ListDistribution::Union => Distribution::Union,
        ListDistribution::Broadcast => Distribution::Broadcast,
    }
}

/// None for a value that this version doesn't know.
pub(crate) fn distribution_of(code: i32) -> Option<ListDistribution> {
    match Distribution::try_from(code) {
        Ok(Distribution::Split) => Some(ListDistribution::Split),
        Ok(Distribution::Union) => Some(ListDistribution::Union),
        Ok(Distribution::Broadcast) => Some(ListDistribution::Broadcast),
        Ok(Distribution::Unspecified) | Err(_) => None,
    }
}
