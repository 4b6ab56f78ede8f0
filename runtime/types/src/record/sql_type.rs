//! The graph's names of column types: Flink SQL's, so that a graph reads as its users think.

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};

/// "name: TYPE [NOT NULL]" for each column.
pub fn output_columns(schema: &Schema) -> Vec<String> {
    schema
        .fields()
        .iter()
        .map(|field| format!("{}: {}", field.name(), sql_type(field)))
        .collect()
}

fn sql_type(field: &Field) -> String {
    let name = type_name(field.data_type());
    if field.is_nullable() {
        name
    } else {
        format!("{name} NOT NULL")
    }
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "STRING".to_owned(),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "BYTES".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(unit, zone) => timestamp_name(*unit, zone.is_some()),
        DataType::Struct(fields) => row_name(fields),
        // No type of Flink's: Arrow's own name says it exactly.
        other => other.to_string().to_uppercase(),
    }
}

fn timestamp_name(unit: TimeUnit, instant: bool) -> String {
    let precision = match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    format!("TIMESTAMP{}({precision})", if instant { "_LTZ" } else { "" })
}

fn row_name(fields: &Fields) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|field| format!("{} {}", field.name(), sql_type(field)))
        .collect();
    format!("ROW<{}>", fields.join(", "))
}
