//! The operator contract.

use std::sync::Arc;

use arrow::array::RecordBatch;
use thalweg_types::{Classify, FailureClass, KeyGroupRange, OperatorId, StreamBatch};

/// Where an operator runs; given when it is made.
#[derive(Debug, Clone)]
pub struct OperatorContext {
    /// The task's name, as "Flat Map -> Map (1/4)".
    pub task_name: Arc<str>,
    /// The operator's name.
    pub operator_name: Arc<str>,
    /// Its id.
    pub operator_id: OperatorId,
    /// 0-based.
    pub subtask: u32,
    /// How many subtasks there are.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// The key groups of this subtask.
    pub key_groups: KeyGroupRange,
}

/// How much one [`Operator::poll_output`] may return.
#[derive(Debug, Clone, Copy)]
pub struct OutputLimit {
    /// Rows.
    pub rows: usize,
    /// Bytes, a guide: one row is always allowed.
    pub bytes: usize,
}

/// Why an operator failed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The user's function panicked.
    #[error("user function of {operator} panicked: {message}")]
    UserPanic {
        /// The operator's name.
        operator: String,
        /// The panic's message.
        message: String,
    },
    /// The user's function returned an error.
    #[error("user function of {operator} failed: {message}")]
    User {
        /// The operator's name.
        operator: String,
        /// What it said.
        message: String,
    },
    /// A value is out of what the operator can compute, as an overflow.
    #[error("{operator}: {message}")]
    Value {
        /// The operator's name.
        operator: String,
        /// Which value, and what is allowed.
        message: String,
    },
    /// The columns that came are not those that the graph promised.
    #[error("{operator}: unexpected input: {message}")]
    Input {
        /// The operator's name.
        operator: String,
        /// What was expected and what came.
        message: String,
    },
    /// An Arrow kernel refused its input.
    #[error("{operator}: Arrow kernel failed")]
    Arrow {
        /// The operator's name.
        operator: String,
        /// What it said.
        #[source]
        source: arrow::error::ArrowError,
    },
}

impl Classify for OperatorError {
    fn class(&self) -> FailureClass {
        match self {
            Self::UserPanic { .. } | Self::User { .. } | Self::Value { .. } => FailureClass::Retryable,
            Self::Input { .. } | Self::Arrow { .. } => FailureClass::Bug,
        }
    }
}

/// One operator of one subtask. Called by its task's thread only.
pub trait Operator: Send {
    /// Takes a batch of logical input `input`. Called only when [`Self::poll_output`] has nothing left.
    fn push(&mut self, input: usize, batch: StreamBatch) -> Result<(), OperatorError>;

    /// The next piece of output, or `None` when all that was pushed is worked off.
    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError>;

    /// Logical input `input` has ended; what is still held for it comes out of [`Self::poll_output`].
    fn end_input(&mut self, input: usize) -> Result<(), OperatorError> {
        let _ = input;
        Ok(())
    }
}

/// Finds or computes the key of rows, once, before a keyed exchange; the hash and the columns travel with them.
pub trait KeySelector: Send + Sync {
    /// The rows, with computed key columns appended where the key is not a column already, and the indices of the key's
    /// columns in what is returned.
    fn select(&self, rows: RecordBatch) -> Result<(RecordBatch, Vec<usize>), OperatorError>;
}
