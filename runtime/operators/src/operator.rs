//! The operator contract.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use thalweg_state::{OperatorSnapshot, RestoredState, SnapshotRequest, StateError, StateSettings};
use thalweg_types::{Classify, FailureClass, KeyGroupRange, OperatorId, StreamBatch};

use crate::sql::lookup_join::LookupError;

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
    /// Within which limits it keeps its state.
    pub state: Arc<StateSettings>,
    /// The shared runtime for I/O.
    pub io: tokio::runtime::Handle,
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
    /// State can't be kept, restored or given for a checkpoint.
    #[error("{operator}: {source}")]
    State {
        /// The operator's name.
        operator: String,
        /// What failed.
        #[source]
        source: StateError,
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
    /// A table that it looks up can't be read, or held.
    #[error("{operator}: table {table}: {source}")]
    Lookup {
        /// The operator's name.
        operator: String,
        /// Which table.
        table: String,
        /// What failed.
        #[source]
        source: LookupError,
    },
}

impl Classify for OperatorError {
    fn class(&self) -> FailureClass {
        match self {
            Self::UserPanic { .. } | Self::User { .. } | Self::Value { .. } => FailureClass::Retryable,
            Self::State { source, .. } => source.class(),
            Self::Lookup { source, .. } => source.class,
            Self::Input { .. } | Self::Arrow { .. } => FailureClass::Bug,
        }
    }
}

/// One operator of one subtask. Called by its task's thread only.
///
/// ```text
///   restore -> ( push | end_input | on_processing_time -> poll_output.. -> None )* ; snapshot only when poll_output gave None
/// ```
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

    /// One of several logical inputs became idle (`true`: it holds no watermark back) or active. Called as [`Self::push`] is.
    fn set_input_idle(&mut self, input: usize, idle: bool) -> Result<(), OperatorError> {
        let _ = (input, idle);
        Ok(())
    }

    /// Watermark alignment: its source waits for others from now on (`true`), or goes on: that is not idleness.
    fn set_input_paused(&mut self, paused: bool) {
        let _ = paused;
    }

    /// The next piece for a side output (its number, from 1). Asked after each [`Self::poll_output`] until there is none.
    /// Watermarks of the main output go to all side outputs by themselves.
    fn poll_side_output(&mut self) -> Option<(u32, StreamBatch)> {
        None
    }

    /// Its output became idle (`true`: it holds no watermark back until there are rows again) or active. Asked when
    /// [`Self::poll_output`] gave nothing, and before a batch that it gave goes on: an idle output's watermarks don't count.
    fn poll_idleness(&mut self) -> Option<bool> {
        None
    }

    /// When it wants [`Self::on_processing_time`]: milliseconds since the epoch.
    fn next_processing_time(&self) -> Option<i64> {
        None
    }

    /// The clock has reached what [`Self::next_processing_time`] said. Called as [`Self::push`] is: when all output is taken.
    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        let _ = now_ms;
        Ok(())
    }

    /// For operators that wait for something outside: ready when [`Self::poll_output`] may have more, or when another batch may
    /// be pushed. The task sleeps while it is pending. [`Self::push`] is called only when it is ready.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OperatorError>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Takes what it knows out of `state`; called once, before everything else, also when there is nothing to restore.
    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        let _ = state;
        Ok(())
    }

    /// What belongs to the checkpoint: everything that was pushed before. On the task's thread, so as short as can be.
    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let _ = request;
        Ok(OperatorSnapshot::default())
    }

    /// The checkpoint is complete (all tasks have acknowledged it), or was given up.
    fn on_checkpoint_end(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), OperatorError> {
        let _ = (checkpoint_id, completed);
        Ok(())
    }

    /// Bytes of state held in memory.
    fn state_bytes(&self) -> usize {
        0
    }
}

/// Finds or computes the key of rows, once, before a keyed exchange; the hash and the columns travel with them.
pub trait KeySelector: Send + Sync {
    /// The rows, with computed key columns appended where the key is not a column already, and the indices of the key's
    /// columns in what is returned.
    fn select(&self, rows: RecordBatch) -> Result<(RecordBatch, Vec<usize>), OperatorError>;
}
