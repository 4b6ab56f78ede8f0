//! Flink's logical types, and the Arrow types that hold their values.
//!
//! | Flink | Arrow |
//! |---|---|
//! | BOOLEAN, TINYINT .. BIGINT, FLOAT, DOUBLE | Boolean, Int8 .. Int64, Float32, Float64 |
//! | DECIMAL(p, s) | Decimal128(p, s) |
//! | CHAR(n), VARCHAR(n), STRING | Utf8 |
//! | BINARY(n), VARBINARY(n), BYTES | Binary |
//! | DATE | Date32 |
//! | TIME(p) | Time32(Millisecond), as Flink keeps no more |
//! | TIMESTAMP(p) | Timestamp: Millisecond for p <= 3, Microsecond for p <= 6, else Nanosecond; no time zone |
//! | TIMESTAMP_LTZ(p) | the same with time zone "UTC" |
//! | INTERVAL YEAR TO MONTH | Interval(YearMonth) |
//! | INTERVAL DAY TO SECOND | Duration(Millisecond), as Flink keeps no more |
//! | ARRAY<T> | List of a field "item" |
//! | MAP<K, V> | Map, unsorted, of "entries" with "key" and "value" |
//! | MULTISET<T> | Map from T to Int32 |
//! | ROW<..> | Struct |
//! | NULL | Null |

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{self as columns, IntervalUnit, TimeUnit};

/// The longest CHAR, VARCHAR, BINARY or VARBINARY; a VARCHAR of it is written STRING.
pub const MAX_LENGTH: u32 = i32::MAX as u32;

/// The time zone that marks instants in Arrow.
const UTC: &str = "UTC";

/// A type and whether its values may be null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DataType {
    /// Without nullability.
    pub root: TypeRoot,
    /// Whether there may be nulls.
    pub nullable: bool,
}

/// A type without nullability.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "Flink's names")]
pub enum TypeRoot {
    /// The type of a bare NULL.
    Null,
    Boolean,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Char(u32),
    /// STRING = of [`MAX_LENGTH`].
    VarChar(u32),
    Binary(u32),
    /// BYTES = of [`MAX_LENGTH`].
    VarBinary(u32),
    Date,
    Time(u8),
    Timestamp(u8, TimeKind),
    TimestampLtz(u8, TimeKind),
    IntervalYearMonth,
    IntervalDaySecond,
    Array(Box<DataType>),
    Map(Box<DataType>, Box<DataType>),
    Multiset(Box<DataType>),
    Row(Vec<Field>),
}

/// Whether a timestamp is a time attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimeKind {
    /// A value like others.
    #[default]
    Regular,
    /// `*ROWTIME*`: watermarks hold for it.
    Rowtime,
    /// `*PROCTIME*`: read when it is used.
    Proctime,
}

/// A column, or a field of a ROW.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
}

/// The columns of a table, view or operator's output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Schema {
    /// In order; names may repeat in operators' outputs.
    pub fields: Vec<Field>,
}

impl DataType {
    /// Values that may be null.
    pub fn nullable(root: TypeRoot) -> Self {
        Self { root, nullable: true }
    }

    /// Values that are never null.
    pub fn not_null(root: TypeRoot) -> Self {
        Self {
            root,
            nullable: false,
        }
    }

    /// The same with this nullability.
    #[must_use]
    pub fn with_nullable(self, nullable: bool) -> Self {
        Self { nullable, ..self }
    }

    /// STRING.
    pub fn string() -> Self {
        Self::nullable(TypeRoot::VarChar(MAX_LENGTH))
    }

    /// Its time attribute becomes an ordinary timestamp.
    #[must_use]
    pub fn materialized(self) -> Self {
        let root = match self.root {
            TypeRoot::Timestamp(precision, _) => TypeRoot::Timestamp(precision, TimeKind::Regular),
            TypeRoot::TimestampLtz(precision, _) => TypeRoot::TimestampLtz(precision, TimeKind::Regular),
            other => other,
        };
        Self { root, ..self }
    }

    /// Which time attribute it is.
    pub fn time_kind(&self) -> TimeKind {
        match self.root {
            TypeRoot::Timestamp(_, kind) | TypeRoot::TimestampLtz(_, kind) => kind,
            _ => TimeKind::Regular,
        }
    }

    /// What holds its values.
    pub fn to_arrow(&self) -> columns::DataType {
        use columns::DataType as Arrow;
        match &self.root {
            TypeRoot::Null => Arrow::Null,
            TypeRoot::Boolean => Arrow::Boolean,
            TypeRoot::TinyInt => Arrow::Int8,
            TypeRoot::SmallInt => Arrow::Int16,
            TypeRoot::Int => Arrow::Int32,
            TypeRoot::BigInt => Arrow::Int64,
            TypeRoot::Float => Arrow::Float32,
            TypeRoot::Double => Arrow::Float64,
            TypeRoot::Decimal { precision, scale } => Arrow::Decimal128(*precision, *scale as i8),
            TypeRoot::Char(_) | TypeRoot::VarChar(_) => Arrow::Utf8,
            TypeRoot::Binary(_) | TypeRoot::VarBinary(_) => Arrow::Binary,
            TypeRoot::Date => Arrow::Date32,
            TypeRoot::Time(_) => Arrow::Time32(TimeUnit::Millisecond),
            TypeRoot::Timestamp(precision, _) => Arrow::Timestamp(time_unit(*precision), None),
            TypeRoot::TimestampLtz(precision, _) => Arrow::Timestamp(time_unit(*precision), Some(UTC.into())),
            TypeRoot::IntervalYearMonth => Arrow::Interval(IntervalUnit::YearMonth),
            TypeRoot::IntervalDaySecond => Arrow::Duration(TimeUnit::Millisecond),
            TypeRoot::Array(element) => Arrow::List(Arc::new(element.to_field("item"))),
            TypeRoot::Map(key, value) => map_type(key, value),
            TypeRoot::Multiset(element) => map_type(element, &Self::not_null(TypeRoot::Int)),
            TypeRoot::Row(fields) => Arrow::Struct(fields.iter().map(Field::to_arrow).collect()),
        }
    }

    /// A column of it.
    pub fn to_field(&self, name: &str) -> columns::Field {
        columns::Field::new(name, self.to_arrow(), self.nullable)
    }
}

/// The unit in which timestamps of a precision are kept.
pub fn time_unit(precision: u8) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn map_type(key: &DataType, value: &DataType) -> columns::DataType {
    let entry = [
        key.clone().with_nullable(false).to_field("key"),
        value.to_field("value"),
    ];
    let entries = columns::Field::new("entries", columns::DataType::Struct(entry.to_vec().into()), false);
    columns::DataType::Map(Arc::new(entries), false)
}

impl Field {
    /// A field.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self {
            name: name.into(),
            data_type,
        }
    }

    /// What holds its values.
    pub fn to_arrow(&self) -> columns::Field {
        self.data_type.to_field(&self.name)
    }
}

impl Schema {
    /// What holds its rows. Names that repeat get `0`, `1`, .. behind them, as Flink's planner names them.
    pub fn to_arrow(&self) -> columns::SchemaRef {
        Arc::new(columns::Schema::new(
            self.fields.iter().map(Field::to_arrow).collect::<Vec<_>>(),
        ))
    }

    /// The position of a name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

impl fmt::Display for DataType {
    /// As Flink's `asSummaryString`: "DECIMAL(23, 3) NOT NULL", "ROW<`a` INT>", "TIMESTAMP(3) *ROWTIME*".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root)?;
        if !self.nullable {
            f.write_str(" NOT NULL")?;
        }
        match self.time_kind() {
            TimeKind::Regular => Ok(()),
            TimeKind::Rowtime => f.write_str(" *ROWTIME*"),
            TimeKind::Proctime => f.write_str(" *PROCTIME*"),
        }
    }
}

impl fmt::Display for TypeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::TinyInt => f.write_str("TINYINT"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Int => f.write_str("INT"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            Self::Char(length) => write!(f, "CHAR({length})"),
            Self::VarChar(MAX_LENGTH) => f.write_str("STRING"),
            Self::VarChar(length) => write!(f, "VARCHAR({length})"),
            Self::Binary(length) => write!(f, "BINARY({length})"),
            Self::VarBinary(MAX_LENGTH) => f.write_str("BYTES"),
            Self::VarBinary(length) => write!(f, "VARBINARY({length})"),
            Self::Date => f.write_str("DATE"),
            Self::Time(precision) => write!(f, "TIME({precision})"),
            Self::Timestamp(precision, _) => write!(f, "TIMESTAMP({precision})"),
            Self::TimestampLtz(precision, _) => write!(f, "TIMESTAMP_LTZ({precision})"),
            Self::IntervalYearMonth => f.write_str("INTERVAL MONTH"),
            Self::IntervalDaySecond => f.write_str("INTERVAL SECOND(3)"),
            Self::Array(element) => write!(f, "ARRAY<{element}>"),
            Self::Map(key, value) => write!(f, "MAP<{key}, {value}>"),
            Self::Multiset(element) => write!(f, "MULTISET<{element}>"),
            Self::Row(fields) => {
                f.write_str("ROW<")?;
                for (position, field) in fields.iter().enumerate() {
                    let comma = if position > 0 { ", " } else { "" };
                    write!(f, "{comma}`{}` {}", field.name, field.data_type)?;
                }
                f.write_str(">")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_flink_writes_them() {
        let price = DataType::not_null(TypeRoot::Decimal {
            precision: 23,
            scale: 3,
        });
        let row = DataType::nullable(TypeRoot::Row(vec![
            Field::new("a", DataType::string()),
            Field::new("t", DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Rowtime))),
            Field::new("p", price),
        ]));
        assert_eq!(
            row.to_string(),
            "ROW<`a` STRING, `t` TIMESTAMP(3) *ROWTIME*, `p` DECIMAL(23, 3) NOT NULL>"
        );
    }

    #[test]
    fn a_timestamps_unit_is_the_smallest_that_holds_its_precision() {
        let arrow =
            |precision| DataType::nullable(TypeRoot::TimestampLtz(precision, TimeKind::Regular)).to_arrow();
        let instant = |unit| columns::DataType::Timestamp(unit, Some("UTC".into()));
        assert_eq!(arrow(3), instant(TimeUnit::Millisecond));
        assert_eq!(arrow(6), instant(TimeUnit::Microsecond));
        assert_eq!(arrow(9), instant(TimeUnit::Nanosecond));
    }
}
