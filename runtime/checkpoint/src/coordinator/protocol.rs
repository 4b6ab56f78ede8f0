//! What goes into the coordinator and what comes out.

use std::sync::Arc;

use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, DeclineCheckpoint, ExecutionAttempt, NotifyCheckpoint, TriggerCheckpoint,
};
use thalweg_proto::graph::v1::JobGraph;
use thalweg_proto::state::v1::{SnapshotMetadata, TaskSnapshot};
use thalweg_types::Failure;

use crate::config::CheckpointConfig;
use crate::restore::RestoreSource;

/// `<job folder>/chk-<id>/_savepoint` holds the URI of savepoint `<id>`, which was to stop the job: its sinks have committed, so
/// whoever goes on with the job must start from there and from nothing older. It is written before any task hears that the
/// savepoint is complete, and deleted when a newer checkpoint is.
pub const POINTER_FILE: &str = "_savepoint";

/// What a coordinator is made with.
#[derive(Debug, Clone)]
pub struct CoordinatorSetup {
    /// What runs.
    pub graph: JobGraph,
    /// How often and so on.
    pub config: CheckpointConfig,
    /// The job's own checkpoint folder, `<execution.checkpointing.dir>/<job id>`, as a canonical URI.
    pub folder: Option<String>,
    /// Whether everything in that folder is of this run of the job: then what is left over is found and deleted at its end.
    pub folder_is_ours: bool,
    /// Whether another JobManager may have to go on with the job: then a savepoint that stops it leaves a [`POINTER_FILE`].
    pub recoverable: bool,
    /// Numbers begin here: above all that are in the folder and above the restored one's; at least 1.
    pub first_checkpoint_id: u64,
    /// What the job starts from is the last one; before it, what else is retained, oldest first. Not owned though it is of
    /// this very job: the savepoint that a [`POINTER_FILE`] names.
    pub restored: Vec<RestoredFrom>,
    /// What lies in that folder already, by the paths in it: see [`super::leftovers()`].
    pub earlier_files: Vec<String>,
    /// `web.checkpoints.history`.
    pub history_size: usize,
    /// For the delay of the first checkpoint after each start, which Flink draws too (`getRandomInitDelay`), so that jobs that start
    /// together don't checkpoint together; None = always the longest that is drawn, an interval.
    pub delay_seed: Option<u64>,
}

/// A snapshot that the job starts from.
#[derive(Debug, Clone)]
pub struct RestoredFrom {
    /// Its content.
    pub metadata: Arc<SnapshotMetadata>,
    /// The folder with its `_metadata`, as a URI.
    pub folder: String,
    /// The URI that its relative paths start from.
    pub base: String,
    /// Whether it is the job's now: claimed, or one of its own from before. Else (NO_CLAIM) nothing of it is deleted or
    /// used after the first completed checkpoint, which is a full one.
    pub owned: bool,
}

/// A snapshot that can be restored.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletedCheckpoint {
    /// Its number.
    pub id: u64,
    /// The folder with its `_metadata`, as a URI.
    pub folder: String,
    /// The URI that its relative paths start from.
    pub base: String,
    /// Its content.
    pub metadata: Arc<SnapshotMetadata>,
    /// Whether its files are the job's, to go on with and to delete.
    pub owned: bool,
}

impl CompletedCheckpoint {
    /// For [`crate::assign`].
    pub fn source(&self) -> RestoreSource<'_> {
        RestoreSource {
            metadata: &self.metadata,
            base: &self.base,
            own: self.owned,
        }
    }
}

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotTarget {
    /// A checkpoint out of turn.
    Checkpoint {
        /// Flink's checkpointType FULL: it refers to no file of an earlier one.
        full: bool,
    },
    /// A savepoint.
    Savepoint {
        /// The folder that its folder is made in, as a canonical URI; None = the configured one.
        directory: Option<String>,
        /// The job ends behind it.
        stop: bool,
        /// With `stop`: event time runs to its end first.
        drain: bool,
        /// For the folder's name; any number.
        random: u64,
    },
}

/// Somebody wants a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// A second request with the same id does nothing.
    pub operation_id: String,
    /// What of.
    pub target: SnapshotTarget,
}

impl SnapshotRequest {
    /// For another try, in another folder: the first one's is still being deleted.
    pub(super) fn again(mut self) -> Self {
        if let SnapshotTarget::Savepoint { random, .. } = &mut self.target {
            *random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
        }
        self
    }

    pub(super) fn stops_job(&self) -> bool {
        matches!(self.target, SnapshotTarget::Savepoint { stop: true, .. })
    }

    /// Event time runs to its end before it: what was sent then can't be taken back.
    pub(super) fn drains_job(&self) -> bool {
        matches!(
            self.target,
            SnapshotTarget::Savepoint {
                stop: true,
                drain: true,
                ..
            }
        )
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// All its tasks finished.
    Finished,
    /// Somebody canceled it.
    Canceled,
    /// It failed for good.
    Failed,
    /// This JobManager gives it up, another one will go on with it: nothing is deleted.
    Suspended,
}

/// What a new JobManager found running.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Takeover {
    /// Attempts that run.
    pub running: Vec<ExecutionAttempt>,
    /// Attempts that have finished, with what they left.
    pub finished: Vec<(ExecutionAttempt, TaskSnapshot)>,
    /// The newest snapshot that any of the tasks heard of.
    pub newest_seen: u64,
    /// The savepoint to stop with that sources were triggered for and nothing was started since; 0 = none.
    pub stop_savepoint: u64,
    /// Event time ran to its end before it.
    pub drains: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An attempt of a task runs.
    TaskRunning(ExecutionAttempt),
    /// It has finished.
    TaskFinished {
        /// Which.
        execution: ExecutionAttempt,
        /// The lists of its operators as of its end, which every later checkpoint has.
        final_snapshot: TaskSnapshot,
    },
    /// These attempts, running or finished, don't count any more: they failed, or restart with one that did.
    TasksStopped {
        /// Which.
        executions: Vec<ExecutionAttempt>,
        /// Why.
        failure: Failure,
    },
    /// Tasks are deployed with [`super::CheckpointCoordinator::restore_point`].
    Restored,
    /// A new JobManager leads and knows what runs; before any other event, instead of [`Event::Restored`].
    TookOver(Takeover),
    /// Time passed.
    Tick,
    /// Somebody wants a snapshot.
    Trigger(SnapshotRequest),
    /// A task did its part.
    Acknowledge(AcknowledgeCheckpoint),
    /// A task can't do its part.
    Decline(DeclineCheckpoint),
    /// [`Action::WriteMetadata`] is done.
    MetadataWritten {
        /// Of which.
        checkpoint_id: u64,
        /// Its size in bytes.
        result: Result<u64, Failure>,
    },
    /// No task runs any more, and none will.
    JobEnded(JobEnd),
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// To the TaskManagers of its executions.
    Trigger(TriggerCheckpoint),
    /// To the TaskManagers of its executions.
    Notify(NotifyCheckpoint),
    /// Write the metadata as `folder/_metadata` and then the pointer, then say [`Event::MetadataWritten`].
    WriteMetadata {
        /// Of which.
        checkpoint_id: u64,
        /// As a URI.
        folder: String,
        /// A file to write the folder's URI into; see [`POINTER_FILE`].
        pointer: Option<String>,
        /// What to encode.
        metadata: Arc<SnapshotMetadata>,
    },
    /// Delete files by their URIs; that one is not there is no error.
    DeleteFiles(Vec<String>),
    /// Delete a folder and all in it, by its URI; that it isn't there is no error.
    DeleteFolder(String),
    /// Delete all files below the folder, but these.
    Sweep {
        /// As a URI.
        folder: String,
        /// As URIs.
        keep: Vec<String>,
    },
    /// The job has failed: restart it from [`super::CheckpointCoordinator::restore_point`] as its restart strategy says.
    FailJob(Failure),
    /// A request's end.
    OperationEnded {
        /// Which.
        operation_id: String,
        /// The snapshot's number; 0 if it never began.
        checkpoint_id: u64,
        /// Its folder, as a URI.
        result: Result<String, Failure>,
    },
}
