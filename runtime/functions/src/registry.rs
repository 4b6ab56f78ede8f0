//! What a function is: how its types follow from its arguments', and how its values do.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use thalweg_plan::{DataType, Expr};

use crate::user::UserFunctions;

/// What expressions need beside rows.
#[derive(Clone)]
pub struct EvaluationEnv {
    /// `table.local-time-zone`: an IANA name, or an offset as "+02:00".
    pub time_zone: String,
    /// Milliseconds since the epoch, for PROCTIME() and, in streams, CURRENT_TIMESTAMP.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Milliseconds since the epoch at which the statement began, for CURRENT_TIMESTAMP in batch mode.
    pub statement_time_ms: i64,
    /// Whether time stands still during a statement.
    pub is_batch: bool,
    /// What packages bring along.
    pub functions: Arc<UserFunctions>,
}

impl fmt::Debug for EvaluationEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvaluationEnv")
            .field("time_zone", &self.time_zone)
            .field("statement_time_ms", &self.statement_time_ms)
            .field("is_batch", &self.is_batch)
            .field("functions", &self.functions)
            .finish_non_exhaustive()
    }
}

/// Why a call has no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ResolveError {
    /// What is wrong, as Flink says it where that is short.
    pub message: String,
    /// Which kind of mistake.
    pub kind: ResolveErrorKind,
}

/// Kinds of [`ResolveError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolveErrorKind {
    /// No such function.
    Unknown,
    /// The arguments don't fit.
    Arguments,
    /// Flink has it, this engine doesn't.
    Unsupported,
}

/// Why a value can't be computed. The position is that of the call in the script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{function}: {message}{}", .position.map(|(line, column)| format!(" (line {line}, column {column})")).unwrap_or_default())]
pub struct EvaluationError {
    /// The function's name.
    pub function: String,
    /// Which value, and what would be allowed.
    pub message: String,
    /// Line and column, from 1.
    pub position: Option<(u32, u32)>,
}

/// An argument's values: one a row, or one for all.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// One a row.
    Array(ArrayRef),
    /// One for all rows: an array of length 1.
    Scalar(ArrayRef),
}

/// What a kernel is called with.
pub(crate) struct Call<'a> {
    /// The arguments, already of the types that the function asked for.
    pub(crate) args: &'a [Value],
    /// Rows of the batch: the length of the result, if not all arguments are scalars (then 1 is allowed).
    pub(crate) rows: usize,
    /// Of the arguments.
    pub(crate) arg_types: &'a [DataType],
    /// Of the result.
    pub(crate) data_type: &'a DataType,
    /// Time and zone.
    pub(crate) env: &'a EvaluationEnv,
}

/// Computes a call's values: an array of `rows` values or, if all arguments are scalars, of one. The error is the message.
pub(crate) type Kernel = fn(&Call<'_>) -> Result<ArrayRef, String>;

/// A call's types.
pub(crate) struct Signature {
    /// What the arguments are cast to first, one for each.
    pub(crate) args: Vec<DataType>,
    /// Of the result.
    pub(crate) result: DataType,
}

/// A built-in scalar function.
pub(crate) struct ScalarFunction {
    /// Upper case; also the name in plans.
    pub(crate) name: &'static str,
    /// As documentation shows it: "SUBSTRING(string, position [, length])".
    pub(crate) usage: &'static str,
    /// Its types for these arguments; literals are seen, as units and formats are. The error is what would fit: "(STRING, INT)".
    pub(crate) infer: fn(&[Expr]) -> Result<Signature, String>,
    /// Its values.
    pub(crate) kernel: Kernel,
    /// False: not the same for the same arguments (RAND, UUID, CURRENT_TIMESTAMP).
    pub(crate) is_deterministic: bool,
}

impl ResolveError {
    /// Arguments that don't fit.
    pub(crate) fn arguments(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind: ResolveErrorKind::Arguments,
        }
    }

    /// What this engine doesn't have.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind: ResolveErrorKind::Unsupported,
        }
    }
}
