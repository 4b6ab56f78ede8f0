//! A table's columns as a schema of Avro: Flink's AvroSchemaConverter.

use serde_json::{Value, json};
use thalweg_plan::{DataType, Field, TypeRoot};

/// Flink's name of a table's record.
const RECORD: &str = "org.apache.flink.avro.generated.record";

/// Names that a column may not have in Avro; the message names the first.
pub fn check_avro_names(fields: &[Field]) -> Result<(), String> {
    fields.iter().try_for_each(|field| {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let mut characters = field.name.chars();
        if !characters.next().is_some_and(first) || !characters.all(|c| first(c) || c.is_ascii_digit()) {
            return Err(format!(
                "The column name '{}' is none of Avro's: letters, digits and '_', no digit first.",
                field.name
            ));
        }
        check_type_names(&field.data_type)
    })
}

fn check_type_names(data_type: &DataType) -> Result<(), String> {
    match &data_type.root {
        TypeRoot::Row(fields) => check_avro_names(fields),
        TypeRoot::Array(inner) | TypeRoot::Map(_, inner) => check_type_names(inner),
        _ => Ok(()),
    }
}

/// The schema of a file with these columns, as text.
pub(super) fn schema_of(fields: &[Field], legacy_timestamps: bool) -> String {
    record(fields, RECORD, legacy_timestamps).to_string()
}

fn record(fields: &[Field], name: &str, legacy: bool) -> Value {
    let (namespace, short) = name.rsplit_once('.').unwrap_or(("", name));
    let field = |field: &Field| {
        let data_type = typed(&field.data_type, &format!("{name}_{}", field.name), legacy);
        match field.data_type.nullable {
            true => json!({"name": field.name, "type": data_type, "default": null}),
            false => json!({"name": field.name, "type": data_type}),
        }
    };
    let fields: Vec<Value> = fields.iter().map(field).collect();
    json!({"type": "record", "name": short, "namespace": namespace, "fields": fields})
}

fn typed(data_type: &DataType, name: &str, legacy: bool) -> Value {
    let of_root = root(&data_type.root, name, legacy);
    match data_type.nullable && data_type.root != TypeRoot::Null {
        true => json!(["null", of_root]),
        false => of_root,
    }
}

fn root(root: &TypeRoot, name: &str, legacy: bool) -> Value {
    let unit = |precision: u8| if precision <= 3 { "millis" } else { "micros" };
    match root {
        TypeRoot::Boolean => json!("boolean"),
        TypeRoot::TinyInt | TypeRoot::SmallInt | TypeRoot::Int => json!("int"),
        TypeRoot::BigInt => json!("long"),
        TypeRoot::Float => json!("float"),
        TypeRoot::Double => json!("double"),
        TypeRoot::Char(_) | TypeRoot::VarChar(_) => json!("string"),
        TypeRoot::Binary(_) | TypeRoot::VarBinary(_) => json!("bytes"),
        TypeRoot::Date => json!({"type": "int", "logicalType": "date"}),
        TypeRoot::Time(_) => json!({"type": "int", "logicalType": "time-millis"}),
        TypeRoot::Timestamp(precision, _) if !legacy => {
            json!({"type": "long", "logicalType": format!("local-timestamp-{}", unit(*precision))})
        }
        TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _) => {
            json!({"type": "long", "logicalType": format!("timestamp-{}", unit(*precision))})
        }
        TypeRoot::Decimal { precision, scale } => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        // Of elements and values Flink's schema has the legacy form whatever is set.
        TypeRoot::Array(element) => json!({"type": "array", "items": typed(element, name, true)}),
        TypeRoot::Map(_, value) => json!({"type": "map", "values": typed(value, name, true)}),
        TypeRoot::Multiset(_) => json!({"type": "map", "values": "int"}),
        TypeRoot::Row(fields) => record(fields, name, legacy),
        TypeRoot::Null | TypeRoot::IntervalYearMonth | TypeRoot::IntervalDaySecond => json!("null"),
    }
}
