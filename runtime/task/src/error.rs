//! Why a task could not be deployed or ended badly.

use std::fmt::Display;

use arrow::error::ArrowError;
use thalweg_connectors::ConnectorError;
use thalweg_exchange::ExchangeError;
use thalweg_operators::OperatorError;
use thalweg_state::StateError;
use thalweg_types::key_hash::KeyHashError;
use thalweg_types::{Classify, Failure, FailureClass};

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The deployment contradicts itself or the program.
    #[error("the deployment of {task} can't be used: {message}")]
    Deployment {
        /// Which task.
        task: String,
        /// What does not fit.
        message: String,
    },
    /// The same attempt runs here already.
    #[error("{execution} runs here already")]
    AlreadyRunning {
        /// Job, vertex, subtask and attempt.
        execution: String,
    },
    /// The job's configuration holds a malformed value.
    #[error("the job's configuration can't be used: {message}")]
    Configuration {
        /// Which key and value, and what is expected.
        message: String,
    },
    /// State can't be kept on the local disk.
    #[error("there is no folder for state that memory has no room for: {source}")]
    LocalState {
        /// Why.
        #[source]
        source: StateError,
    },
    /// The operating system gave no thread.
    #[error("no thread could be started for {task}")]
    SpawnThread {
        /// Which task.
        task: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An operator could not be made.
    #[error("{operator} can't be started: {source}")]
    CreateOperator {
        /// The operator's name.
        operator: String,
        /// Why.
        #[source]
        source: OperatorError,
    },
    /// An operator failed; the cause names it.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A reader or writer failed.
    #[error("{operator}: {source}")]
    Connector {
        /// The operator's name.
        operator: String,
        /// Why.
        #[source]
        source: ConnectorError,
    },
    /// The key columns have a type that has no hash.
    #[error("{operator}: the key can't be hashed: {source}")]
    HashKey {
        /// The name of the operator that sends.
        operator: String,
        /// Why.
        #[source]
        source: KeyHashError,
    },
    /// A channel to or from another task broke.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// Code on the task's thread panicked.
    #[error("{task} panicked{stage}: {message}")]
    Panic {
        /// The task's name.
        task: String,
        /// " in node 2", " while node 2 was being restored"; empty if not known.
        stage: String,
        /// The panic's message.
        message: String,
        /// Thread and place in the source, if known.
        place: String,
    },
    /// User code failed while it worked on a batch.
    #[error("{source}; {task} was working on {input}")]
    OnInput {
        /// What failed.
        source: Box<TaskError>,
        /// The task's name.
        task: String,
        /// Where the batch came from: a source's position, or who sent it.
        input: String,
    },
    /// What a checkpoint holds of an operator can't be read.
    #[error("the state of {operator} in checkpoint {checkpoint_id} can't be read: {source}")]
    RestoreState {
        /// The operator's name.
        operator: String,
        /// The checkpoint.
        checkpoint_id: u64,
        /// Why.
        #[source]
        source: StateError,
    },
    /// An operator does not take what a checkpoint holds of it.
    #[error("{operator} can't be restored: {source}")]
    RestoreOperator {
        /// The operator's name.
        operator: String,
        /// Why.
        #[source]
        source: OperatorError,
    },
    /// The lists of an operator that has ended can't be encoded.
    #[error("the last state of {operator} can't be written: {source}")]
    FinalState {
        /// The operator's name.
        operator: String,
        /// Why.
        #[source]
        source: StateError,
    },
    /// A connector's state does not fit into a list.
    #[error("the state of {operator} can't be put into columns")]
    EncodeState {
        /// The operator's name.
        operator: String,
        /// What Arrow said.
        #[source]
        source: ArrowError,
    },
    /// A barrier whose options can't be read: another version sent it.
    #[error("the barrier of checkpoint {checkpoint_id} that came to {task} can't be read")]
    MalformedBarrier {
        /// The task's name.
        task: String,
        /// The barrier's.
        checkpoint_id: u64,
        /// Why.
        #[source]
        source: prost::DecodeError,
    },
}

impl Classify for TaskError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Deployment { .. }
            | Self::AlreadyRunning { .. }
            | Self::EncodeState { .. }
            | Self::MalformedBarrier { .. } => FailureClass::Bug,
            Self::Configuration { .. } | Self::HashKey { .. } => FailureClass::Fatal,
            Self::RestoreState { source, .. } | Self::FinalState { source, .. } => source.class(),
            Self::RestoreOperator { source, .. } => source.class(),
            // User code may panic on one machine or at one moment only; Flink restarts after it too.
            Self::SpawnThread { .. } | Self::Panic { .. } => FailureClass::Retryable,
            Self::CreateOperator { source, .. } => source.class(),
            Self::LocalState { source } => source.class(),
            Self::Operator(source) => source.class(),
            Self::Connector { source, .. } => source.class(),
            Self::Exchange(source) => source.class(),
            Self::OnInput { source, .. } => source.class(),
        }
    }
}

impl TaskError {
    /// The deployment of a task does not fit.
    pub(crate) fn deployment(task: impl Display, message: impl Into<String>) -> Self {
        Self::Deployment {
            task: task.to_string(),
            message: message.into(),
        }
    }

    /// Whether it is a task at the other end of a channel that went wrong.
    pub(crate) fn follows_from_another_task(&self) -> bool {
        matches!(
            self,
            Self::Exchange(
                ExchangeError::ProducerLost { .. }
                    | ExchangeError::ProducerReleased { .. }
                    | ExchangeError::ConsumerLost { .. }
            )
        )
    }

    /// Whether a record may be to blame, so that it helps to know where it came from.
    pub(crate) fn may_be_of_a_record(&self) -> bool {
        matches!(
            self,
            Self::Panic { .. }
                | Self::Operator(
                    OperatorError::UserPanic { .. }
                        | OperatorError::User { .. }
                        | OperatorError::Value { .. }
                )
        )
    }

    /// As it travels to the JobManager.
    pub fn to_failure(&self) -> Failure {
        let mut failure = Failure::from_error(self);
        let cause = match self {
            Self::OnInput { source, .. } => source,
            other => other,
        };
        if let Self::Panic { place, .. } = cause {
            failure.detail.clone_from(place);
        }
        failure
    }
}
