//! States with Flink's names, when each was entered, and one subtask's attempt.

use std::collections::VecDeque;
use std::fmt;

use thalweg_proto::control::v1 as control;
use thalweg_types::id::ParseIdError;
use thalweg_types::{ExecutionId, Failure, FailureClass, TaskManagerId};

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// Every state, in Flink's order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As Flink writes it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

states! {
    /// The state of a job; Flink's JobStatus.
    JobStatus {
        /// Its graph is being made.
        Initializing = "INITIALIZING",
        /// It waits for slots and workers.
        Created = "CREATED",
        /// Its tasks are deployed.
        Running = "RUNNING",
        /// It failed for good; its tasks are being ended.
        Failing = "FAILING",
        /// It failed. Terminal.
        Failed = "FAILED",
        /// A user ends it; its tasks are being ended.
        Cancelling = "CANCELLING",
        /// A user ended it. Terminal.
        Canceled = "CANCELED",
        /// All its tasks came to their end. Terminal.
        Finished = "FINISHED",
        /// Failed tasks are being started again.
        Restarting = "RESTARTING",
        /// Another JobManager leads. Terminal here.
        Suspended = "SUSPENDED",
        /// A new leader learns from the TaskManagers what runs.
        Reconciling = "RECONCILING",
    }
}

impl JobStatus {
    /// Whether this graph won't leave it.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Failed | Self::Canceled | Self::Finished | Self::Suspended
        )
    }

    /// Whether the job has ended, for every JobManager.
    pub fn is_globally_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }
}

states! {
    /// The state of a task; Flink's ExecutionState.
    TaskState {
        /// Not scheduled yet.
        Created = "CREATED",
        /// It waits for its slot and worker.
        Scheduled = "SCHEDULED",
        /// It was sent to its worker.
        Deploying = "DEPLOYING",
        /// It restores its state.
        Initializing = "INITIALIZING",
        /// It works.
        Running = "RUNNING",
        /// It came to its end. Terminal.
        Finished = "FINISHED",
        /// It is being canceled.
        Canceling = "CANCELING",
        /// It was canceled. Terminal.
        Canceled = "CANCELED",
        /// It failed. Terminal.
        Failed = "FAILED",
        /// Its TaskManager has not reported it yet.
        Reconciling = "RECONCILING",
    }
}

impl TaskState {
    /// Whether an attempt won't leave it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Canceled | Self::Failed)
    }

    /// Whether a worker has the task, so that it must be told to cancel.
    pub fn is_at_worker(self) -> bool {
        matches!(
            self,
            Self::Deploying | Self::Initializing | Self::Running | Self::Canceling
        )
    }

    /// `None` for an unspecified one.
    pub fn from_proto(state: control::TaskState) -> Option<Self> {
        Some(match state {
            control::TaskState::Unspecified => return None,
            control::TaskState::Created => Self::Created,
            control::TaskState::Scheduled => Self::Scheduled,
            control::TaskState::Deploying => Self::Deploying,
            control::TaskState::Initializing => Self::Initializing,
            control::TaskState::Running => Self::Running,
            control::TaskState::Finished => Self::Finished,
            control::TaskState::Canceling => Self::Canceling,
            control::TaskState::Canceled => Self::Canceled,
            control::TaskState::Failed => Self::Failed,
            control::TaskState::Reconciling => Self::Reconciling,
        })
    }
}

/// When each state was last entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTimestamps<S> {
    entries: Vec<(S, u64)>,
}

impl<S: Copy + PartialEq> StateTimestamps<S> {
    pub(super) fn starting(state: S, now_ms: u64) -> Self {
        Self {
            entries: vec![(state, now_ms)],
        }
    }

    pub(super) fn enter(&mut self, state: S, now_ms: u64) {
        self.entries.retain(|(entered, _)| *entered != state);
        self.entries.push((state, now_ms));
    }

    /// Milliseconds since the epoch; `None` = never.
    pub fn of(&self, state: S) -> Option<u64> {
        self.entries
            .iter()
            .find(|(entered, _)| *entered == state)
            .map(|(_, at)| *at)
    }

    /// When the current state was entered.
    pub fn latest(&self) -> u64 {
        self.entries.last().map_or(0, |(_, at)| *at)
    }
}

/// The current attempt of one subtask, and its bounded history.
#[derive(Debug, Clone)]
pub struct Execution {
    /// 0 for the first.
    pub attempt: u32,
    /// Where it is.
    pub state: TaskState,
    /// When it entered each state.
    pub timestamps: StateTimestamps<TaskState>,
    /// Where it runs or ran.
    pub task_manager: Option<TaskManagerId>,
    /// The slot there.
    pub slot: Option<u32>,
    /// With FAILED.
    pub failure: Option<Failure>,
    /// Earlier attempts, oldest first.
    pub history: VecDeque<AttemptRecord>,
}

/// An attempt that is over.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// Which.
    pub attempt: u32,
    /// How it ended.
    pub state: TaskState,
    /// When it entered each state.
    pub timestamps: StateTimestamps<TaskState>,
    /// Where it ran.
    pub task_manager: Option<TaskManagerId>,
    /// With FAILED.
    pub failure: Option<Failure>,
}

impl Execution {
    pub(super) fn new(attempt: u32, now_ms: u64) -> Self {
        Self {
            attempt,
            state: TaskState::Created,
            timestamps: StateTimestamps::starting(TaskState::Created, now_ms),
            task_manager: None,
            slot: None,
            failure: None,
            history: VecDeque::new(),
        }
    }

    pub(super) fn enter(&mut self, state: TaskState, now_ms: u64) {
        if self.state != state {
            self.state = state;
            self.timestamps.enter(state, now_ms);
        }
    }

    /// A newer attempt; the one that is over goes into the history.
    pub(super) fn begin_attempt(&mut self, attempt: u32, history_size: usize, now_ms: u64) {
        let next = Self::new(attempt, now_ms);
        let over = std::mem::replace(self, next);
        self.history = over.history;
        self.history.push_back(AttemptRecord {
            attempt: over.attempt,
            state: over.state,
            timestamps: over.timestamps,
            task_manager: over.task_manager,
            failure: over.failure,
        });
        while self.history.len() > history_size {
            self.history.pop_front();
        }
    }
}

/// An attempt as it goes over the wire.
pub fn execution_attempt(id: ExecutionId) -> control::ExecutionAttempt {
    control::ExecutionAttempt {
        job_id: id.job.to_string(),
        vertex_id: id.vertex.to_string(),
        subtask: id.subtask,
        attempt: id.attempt,
    }
}

/// An attempt as it came over the wire.
pub fn execution_id(attempt: &control::ExecutionAttempt) -> Result<ExecutionId, ParseIdError> {
    Ok(ExecutionId {
        job: attempt.job_id.parse()?,
        vertex: attempt.vertex_id.parse()?,
        subtask: attempt.subtask,
        attempt: attempt.attempt,
    })
}

/// A failure as it came over the wire; one without a class counts as retryable.
pub fn failure_from_proto(failure: &control::Failure) -> Failure {
    let class = match failure.class() {
        control::FailureClass::Fatal => FailureClass::Fatal,
        control::FailureClass::Bug => FailureClass::Bug,
        control::FailureClass::Retryable | control::FailureClass::Unspecified => FailureClass::Retryable,
    };
    Failure {
        class,
        message: failure.message.clone(),
        detail: failure.detail.clone(),
    }
}

/// A failure as it goes over the wire.
pub fn failure_to_proto(failure: &Failure) -> control::Failure {
    let class = match failure.class {
        FailureClass::Retryable => control::FailureClass::Retryable,
        FailureClass::Fatal => control::FailureClass::Fatal,
        FailureClass::Bug => control::FailureClass::Bug,
    };
    control::Failure {
        class: class.into(),
        message: failure.message.clone(),
        detail: failure.detail.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_entered_again_has_its_newest_time_and_is_the_latest() {
        let mut times = StateTimestamps::starting(JobStatus::Created, 1);
        times.enter(JobStatus::Running, 2);
        times.enter(JobStatus::Restarting, 3);
        times.enter(JobStatus::Running, 4);
        assert_eq!(
            (
                times.of(JobStatus::Running),
                times.of(JobStatus::Failed),
                times.latest()
            ),
            (Some(4), None, 4)
        );
    }

    #[test]
    fn the_history_of_attempts_is_bounded_and_keeps_the_newest() {
        let mut execution = Execution::new(0, 0);
        for attempt in 1..=5 {
            execution.begin_attempt(attempt, 2, 1);
        }
        let attempts: Vec<u32> = execution.history.iter().map(|record| record.attempt).collect();
        assert_eq!((execution.attempt, attempts), (5, vec![3, 4]));
    }

    #[test]
    fn an_attempt_reads_back_what_it_wrote() {
        let id = ExecutionId {
            job: thalweg_types::JobId::from_u128(1),
            vertex: thalweg_types::VertexId::from_u128(2),
            subtask: 3,
            attempt: 4,
        };
        assert_eq!(execution_id(&execution_attempt(id)), Ok(id));
    }
}
