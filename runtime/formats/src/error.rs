//! What can be wrong with a record.

use thalweg_types::{Classify, FailureClass};

/// A record that can't be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes are not of the format.
    #[error("{0}")]
    Syntax(String),
    /// A value isn't of its column's type.
    #[error("{0}")]
    Value(String),
    /// A column that is NOT NULL has no value in this row of the batch.
    #[error("column {column:?} is NOT NULL and has no value")]
    Null {
        /// Which column.
        column: String,
        /// The row, counted from the batch's first.
        row: usize,
    },
    /// Arrow refuses the columns: a bug.
    #[error("decoded columns make no batch: {0}")]
    Columns(String),
}

impl FormatError {
    pub(crate) fn syntax(what: impl Into<String>) -> Self {
        Self::Syntax(what.into())
    }

    pub(crate) fn value(what: impl Into<String>) -> Self {
        Self::Value(what.into())
    }

    /// The same, in a field.
    pub(crate) fn in_field(self, name: &str) -> Self {
        match self {
            Self::Syntax(what) => Self::Syntax(what),
            Self::Value(what) => Self::Value(format!("field {name:?}: {what}")),
            other => other,
        }
    }
}

impl Classify for FormatError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Syntax(_) | Self::Value(_) | Self::Null { .. } => FailureClass::Fatal,
            Self::Columns(_) => FailureClass::Bug,
        }
    }
}
