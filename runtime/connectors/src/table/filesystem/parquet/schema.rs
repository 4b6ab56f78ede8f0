//! A table's columns as Parquet's: Flink's ParquetSchemaConverter.
//!
//! All columns are optional, whether the table says NOT NULL or not; keys of maps are required, as Parquet wants it.

use std::sync::Arc;

use parquet::basic::{
    ConvertedType, LogicalType, Repetition, TimeUnit as ParquetUnit, TimestampType, Type as Physical,
};
use parquet::errors::ParquetError;
use parquet::schema::types::{PrimitiveTypeBuilder, Type, TypePtr};
use thalweg_plan::{DataType, Field, TypeRoot};

/// How timestamps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestamps {
    /// 12 bytes: nanoseconds of the day, and the day by Julian's count.
    Int96,
    /// A number of this unit since 1970.
    Int64(Unit),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// What the file says of columns, or what the writer of pages takes for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    File,
    /// INT96 are 12 bytes of fixed length: the same bytes.
    Pages,
}

/// The schema of a file.
pub(super) fn message(fields: &[Field], timestamps: Timestamps, view: View) -> Result<Type, ParquetError> {
    let converter = Converter { timestamps, view };
    Type::group_type_builder("flink_schema")
        .with_fields(converter.fields(fields)?)
        .build()
}

/// What has no form in Parquet.
pub(super) fn check(fields: &[Field]) -> Result<(), String> {
    fields.iter().try_for_each(|field| check_type(&field.data_type))
}

fn check_type(data_type: &DataType) -> Result<(), String> {
    match &data_type.root {
        TypeRoot::Null | TypeRoot::IntervalYearMonth | TypeRoot::IntervalDaySecond => {
            Err(format!("Unsupported type: {data_type}"))
        }
        TypeRoot::Array(element) | TypeRoot::Multiset(element) => check_type(element),
        TypeRoot::Map(key, value) => check_type(key).and_then(|()| check_type(value)),
        TypeRoot::Row(fields) => check(fields),
        _ => Ok(()),
    }
}

/// Bytes of a decimal.
fn decimal_bytes(precision: u8) -> i32 {
    let most = 10_i128.pow(u32::from(precision));
    (1..16)
        .find(|bytes| most <= 1_i128 << (8 * bytes - 1))
        .unwrap_or(16)
}

struct Converter {
    timestamps: Timestamps,
    view: View,
}

impl Converter {
    fn fields(&self, fields: &[Field]) -> Result<Vec<TypePtr>, ParquetError> {
        let optional = |field: &Field| self.column(&field.name, &field.data_type, Repetition::OPTIONAL);
        fields.iter().map(optional).collect()
    }

    fn column(
        &self,
        name: &str,
        data_type: &DataType,
        repetition: Repetition,
    ) -> Result<TypePtr, ParquetError> {
        let optional = Repetition::OPTIONAL;
        let group = |fields: Vec<TypePtr>, converted: ConvertedType| {
            let group = Type::group_type_builder(name).with_repetition(repetition);
            group
                .with_converted_type(converted)
                .with_fields(fields)
                .build()
                .map(Arc::new)
        };
        let repeated = |name: &str, fields: Vec<TypePtr>| {
            let group = Type::group_type_builder(name).with_repetition(Repetition::REPEATED);
            group.with_fields(fields).build().map(Arc::new)
        };
        let pairs = |key: &DataType, value: &DataType| {
            let key = self.column("key", key, Repetition::REQUIRED)?;
            repeated("key_value", vec![key, self.column("value", value, optional)?])
        };
        match &data_type.root {
            TypeRoot::Row(fields) => group(self.fields(fields)?, ConvertedType::NONE),
            TypeRoot::Array(element) => {
                let element = self.column("element", element, optional)?;
                group(vec![repeated("list", vec![element])?], ConvertedType::LIST)
            }
            TypeRoot::Map(key, value) => group(vec![pairs(key, value)?], ConvertedType::MAP),
            TypeRoot::Multiset(element) => {
                let count = DataType::not_null(TypeRoot::Int);
                group(vec![pairs(element, &count)?], ConvertedType::MAP)
            }
            leaf => {
                let leaf = self.leaf(name, leaf)?.with_repetition(repetition).build();
                leaf.map(Arc::new)
            }
        }
    }

    fn leaf<'a>(&self, name: &'a str, root: &TypeRoot) -> Result<PrimitiveTypeBuilder<'a>, ParquetError> {
        let plain = |physical| Type::primitive_type_builder(name, physical);
        let converted = |physical, converted| plain(physical).with_converted_type(converted);
        Ok(match root {
            TypeRoot::Boolean => plain(Physical::BOOLEAN),
            TypeRoot::TinyInt => converted(Physical::INT32, ConvertedType::INT_8),
            TypeRoot::SmallInt => converted(Physical::INT32, ConvertedType::INT_16),
            TypeRoot::Int => plain(Physical::INT32),
            TypeRoot::BigInt => plain(Physical::INT64),
            TypeRoot::Float => plain(Physical::FLOAT),
            TypeRoot::Double => plain(Physical::DOUBLE),
            TypeRoot::Char(_) | TypeRoot::VarChar(_) => converted(Physical::BYTE_ARRAY, ConvertedType::UTF8),
            TypeRoot::Binary(_) | TypeRoot::VarBinary(_) => plain(Physical::BYTE_ARRAY),
            TypeRoot::Date => converted(Physical::INT32, ConvertedType::DATE),
            TypeRoot::Time(_) => converted(Physical::INT32, ConvertedType::TIME_MILLIS),
            TypeRoot::Decimal { precision, scale } => {
                converted(Physical::FIXED_LEN_BYTE_ARRAY, ConvertedType::DECIMAL)
                    .with_length(decimal_bytes(*precision))
                    .with_precision(i32::from(*precision))
                    .with_scale(i32::from(*scale))
            }
            TypeRoot::Timestamp(..) | TypeRoot::TimestampLtz(..) => match (self.timestamps, self.view) {
                (Timestamps::Int96, View::File) => plain(Physical::INT96),
                (Timestamps::Int96, View::Pages) => plain(Physical::FIXED_LEN_BYTE_ARRAY).with_length(12),
                (Timestamps::Int64(unit), _) => {
                    plain(Physical::INT64).with_logical_type(Some(timestamp(unit)))
                }
            },
            other => {
                let what = format!("Unsupported type: {}", DataType::nullable(other.clone()));
                return Err(ParquetError::General(what));
            }
        })
    }
}

fn timestamp(unit: Unit) -> LogicalType {
    LogicalType::Timestamp(TimestampType {
        is_adjusted_to_u_t_c: false,
        unit: match unit {
            Unit::Millis => ParquetUnit::MILLIS,
            Unit::Micros => ParquetUnit::MICROS,
            Unit::Nanos => ParquetUnit::NANOS,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_take_as_few_bytes_as_in_flink() {
        for (precision, bytes) in [(1, 1), (2, 1), (3, 2), (4, 2), (9, 4), (18, 8), (19, 9), (38, 16)] {
            assert_eq!(decimal_bytes(precision), bytes, "{precision}");
        }
    }
}
