//! Values, rows and types, short to write.

use std::hash::{Hash, Hasher};

use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, Schema, TypeRoot};

/// A value of a row, whatever its width.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// All integers, dates, times, timestamps (in their column's unit).
    Int(i64),
    /// The unscaled value.
    Decimal(i128),
    Double(f64),
    Text(String),
    /// ARRAY; MAP and MULTISET as a list of (key, value); ROW as a list of its fields.
    List(Vec<Value>),
}

/// One row.
pub(crate) type Row = Vec<Value>;

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Decimal(_) => 3,
            Self::Double(_) => 4,
            Self::Text(_) => 5,
            Self::List(_) => 6,
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }
}

impl Ord for Value {
    /// Nulls are low, as Flink's.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

/// A row of anything that is a [`Value`]: `row!["a", 1, None::<i64>]`.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::testing::Value::from($value)),*] };
}
pub(crate) use row;

/// BIGINT.
pub(crate) fn bigint() -> DataType {
    DataType::nullable(TypeRoot::BigInt)
}

/// STRING.
pub(crate) fn text() -> DataType {
    DataType::string()
}

/// TIMESTAMP(3) *ROWTIME*.
pub(crate) fn rowtime() -> DataType {
    DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Rowtime))
}

/// TIMESTAMP_LTZ(3) *PROCTIME*.
pub(crate) fn proctime() -> DataType {
    DataType::not_null(TypeRoot::TimestampLtz(3, TimeKind::Proctime))
}

/// TIMESTAMP(3).
pub(crate) fn timestamp() -> DataType {
    DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Regular))
}

/// Columns by name and type.
pub(crate) fn table(columns: &[(&str, DataType)]) -> Schema {
    let fields = columns.iter();
    Schema {
        fields: fields
            .map(|(name, data_type)| Field::new(*name, data_type.clone()))
            .collect(),
    }
}
