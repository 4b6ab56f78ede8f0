//! FlinkStateSnapshot: one savepoint or checkpoint of a job, as a resource.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A savepoint or checkpoint that is to be taken of a job, or a savepoint that exists.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "thalweg.dev",
    version = "v1alpha1",
    kind = "FlinkStateSnapshot",
    plural = "flinkstatesnapshots",
    namespaced,
    status = "StateSnapshotStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One savepoint or checkpoint of a FlinkApplication's or FlinkSessionJob's job.",
    shortname = "fsnap",
    shortname = "thsnap",
    category = "thalweg",
    printcolumn(name = "Job", type_ = "string", json_path = ".spec.jobReference.name"),
    printcolumn(name = "Snapshot State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Path", type_ = "string", json_path = ".status.path"),
    printcolumn(
        name = "Result Timestamp",
        type_ = "date",
        json_path = ".status.resultTimestamp"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Failures",
        type_ = "integer",
        json_path = ".status.failures",
        priority = 1
    ),
    printcolumn(name = "Error", type_ = "string", json_path = ".status.error", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.savepoint) != has(self.checkpoint)",
        "message": "exactly one of savepoint and checkpoint must be set"
    },
    {
        "rule": "has(self.jobReference) || has(self.savepoint) && has(self.savepoint.alreadyExists) && self.savepoint.alreadyExists",
        "message": "jobReference must name the job; only a savepoint with alreadyExists needs none"
    },
    {
        "rule": "has(self.jobReference) == has(oldSelf.jobReference) && (!has(self.jobReference) || self.jobReference == oldSelf.jobReference)",
        "message": "jobReference can't be changed; create another FlinkStateSnapshot"
    },
    {
        "rule": "has(self.savepoint) == has(oldSelf.savepoint)",
        "message": "a savepoint can't become a checkpoint, nor the reverse; create another FlinkStateSnapshot"
    }
]))]
pub struct FlinkStateSnapshotSpec {
    /// The job, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_reference: Option<JobReference>,
    /// It is a savepoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<SavepointSpec>,
    /// It is a checkpoint: the job's own, which it deletes when it has newer ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSpec>,
    /// How often it is tried again after a failure; -1, the default: without end, each time after twice the wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1000))]
    pub backoff_limit: Option<i32>,
}

/// The resource whose job it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobReference {
    /// Its kind.
    pub kind: JobKind,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// Kinds that have a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(clippy::enum_variant_names)] // the kinds' names
pub enum JobKind {
    /// A job with a cluster of its own.
    #[default]
    FlinkApplication,
    /// A job in a session.
    FlinkSessionJob,
}

impl JobKind {
    /// The kind's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FlinkApplication => "FlinkApplication",
            Self::FlinkSessionJob => "FlinkSessionJob",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A savepoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.alreadyExists) || !self.alreadyExists || has(self.path)",
        "message": "alreadyExists needs path, that of the savepoint",
        "fieldPath": ".path"
    },
    {
        "rule": "has(self.path) == has(oldSelf.path) && (!has(self.path) || self.path == oldSelf.path)",
        "message": "path can't be changed; create another FlinkStateSnapshot"
    },
    {
        "rule": "has(self.alreadyExists) == has(oldSelf.alreadyExists) && (!has(self.alreadyExists) || self.alreadyExists == oldSelf.alreadyExists)",
        "message": "alreadyExists can't be changed; create another FlinkStateSnapshot"
    }
]))]
pub struct SavepointSpec {
    /// The folder that the savepoint's own folder is made in; unset: the job's `execution.checkpointing.savepoint-dir`. With
    /// `alreadyExists` the savepoint itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub path: Option<String>,
    /// Flink's format; both are one here, which every backend reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format_type: Option<SavepointFormatType>,
    /// Whether the savepoint in storage is deleted with this resource, by the job's JobManager; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispose_on_delete: Option<bool>,
    /// There is a savepoint at `path`: nothing is triggered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub already_exists: Option<bool>,
}

impl SavepointSpec {
    /// Whether it is there already.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.already_exists == Some(true)
    }
}

/// Flink's SavepointFormatType.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SavepointFormatType {
    /// For every backend.
    #[default]
    Canonical,
    /// The backend's own.
    Native,
}

impl SavepointFormatType {
    /// Flink's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canonical => "CANONICAL",
            Self::Native => "NATIVE",
        }
    }
}

/// A checkpoint; there is nothing to say about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointSpec {}

impl FlinkStateSnapshotSpec {
    /// What it is.
    #[must_use]
    pub fn snapshot_type(&self) -> SnapshotType {
        match self.savepoint {
            Some(_) => SnapshotType::Savepoint,
            None => SnapshotType::Checkpoint,
        }
    }

    /// Whether its data goes with it.
    #[must_use]
    pub fn disposes(&self) -> bool {
        self.savepoint
            .as_ref()
            .is_some_and(|savepoint| savepoint.dispose_on_delete != Some(false))
    }
}

/// Savepoint or checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SnapshotType {
    /// Its owner's, who deletes it.
    #[default]
    Savepoint,
    /// The job's.
    Checkpoint,
}

impl SnapshotType {
    /// The spelling of the label `snapshot.type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Savepoint => "SAVEPOINT",
            Self::Checkpoint => "CHECKPOINT",
        }
    }
}

/// Why a snapshot was taken; the official operator's SnapshotTriggerType.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SnapshotTriggerType {
    /// By a FlinkStateSnapshot of somebody's, or by a nonce.
    Manual,
    /// By an interval.
    Periodic,
    /// To stop the job: for an upgrade, a suspension, its deletion.
    Upgrade,
    /// By REST, or nobody knows.
    #[default]
    Unknown,
}

impl SnapshotTriggerType {
    /// The spelling of the label `snapshot.trigger-type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "MANUAL",
            Self::Periodic => "PERIODIC",
            Self::Upgrade => "UPGRADE",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Reads it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        [Self::Manual, Self::Periodic, Self::Upgrade]
            .into_iter()
            .find(|one| one.as_str() == text)
            .unwrap_or(Self::Unknown)
    }
}

/// Status of a FlinkStateSnapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateSnapshotStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SnapshotState>,
    /// Identifies the newest attempt: written before it is made; the JobManager takes one snapshot an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_id: Option<String>,
    /// The job that `triggerId` is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// When the newest attempt was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_timestamp: Option<Time>,
    /// When it ended, for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_timestamp: Option<Time>,
    /// Where it is, once it is COMPLETED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why the newest attempt failed, or nothing could be attempted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Attempts that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_timestamp: Option<Time>,
    /// Identifies the deletion of the savepoint in storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposal_id: Option<String>,
    /// `Ready` (it is COMPLETED), `Progressing`, `Degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where a snapshot is in its life; the official operator's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SnapshotState {
    /// It is to be triggered.
    #[default]
    TriggerPending,
    /// The JobManager is at it.
    InProgress,
    /// It is at `path`.
    Completed,
    /// It failed too often.
    Failed,
    /// Its job is gone, or has ended.
    Abandoned,
}

impl SnapshotState {
    /// The spelling in a status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TriggerPending => "TRIGGER_PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Abandoned => "ABANDONED",
        }
    }

    /// Whether nothing happens any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Abandoned)
    }
}
