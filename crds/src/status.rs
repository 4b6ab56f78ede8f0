//! What the operator reports.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job_snapshots::{RequestedSnapshots, SavepointInfo};

/// Status of a FlinkApplication or FlinkSession.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the resource is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_state: Option<LifecycleState>,
    /// The job of a FlinkApplication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status: Option<JobStatus>,
    /// The JobManager's Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_manager_deployment_status: Option<JobManagerDeploymentStatus>,
    /// Who leads, where JobManagers elect a leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_manager: Option<JobManagerStatus>,
    /// The TaskManagers, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_manager: Option<TaskManagerStatus>,
    /// Slots of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotStatus>,
    /// The image of the pods: `spec.image`, or the operator's default when the resource was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether `image` is the operator's default: then it stays until `spec.image` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pinned: Option<bool>,
    /// Identifies the newest start of a JobManager: written before it is made, known to the JobManager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// Hash of what the JobManager of `operationId` was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_manager_hash: Option<String>,
    /// Where the job's state is, from one start to the next.
    #[serde(flatten)]
    pub recovery: RecoveryStatus,
    /// What the operator has asked for by FlinkStateSnapshots of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<RequestedSnapshots>,
    /// What is wrong, in one line; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `Ready`, `Progressing`, `Degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Status of a FlinkSessionJob.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionJobStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the resource is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_state: Option<LifecycleState>,
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status: Option<JobStatus>,
    /// Slots that the job needs and has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<JobSlotStatus>,
    /// Identifies the newest submission: written before it is made; the same id is one job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// Hash of what was submitted as `operationId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_hash: Option<String>,
    /// Where the job's state is, from one start to the next.
    #[serde(flatten)]
    pub recovery: RecoveryStatus,
    /// What the operator has asked for by FlinkStateSnapshots of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<RequestedSnapshots>,
    /// What is wrong, in one line; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `Ready`, `Progressing`, `Degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Its id: 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Flink's JobStatus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Since when it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_time: Option<Time>,
    /// How often it was restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i64>,
    /// Its newest failure, also while it runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Its newest completed checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// Its savepoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint_info: Option<SavepointInfo>,
    /// The savepoint with which the job was stopped, or the folder of its checkpoints: the next start restores from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_savepoint_path: Option<String>,
}

/// A completed checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Its number in the job.
    pub id: i64,
    /// Where it is.
    pub path: String,
    /// When it was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_time: Option<Time>,
    /// What it added to the storage, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
}

/// Where a job's state is while it goes from one start to the next. Each part is written before it is acted on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryStatus {
    /// What the start of `operationId` restores from; absent: from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_path: Option<String>,
    /// Whose the snapshot at `restorePath` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_claim_mode: Option<ClaimMode>,
    /// Whose the snapshot at `jobStatus.upgradeSavepointPath` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_claim_mode: Option<ClaimMode>,
    /// The newest savepoint that the job was to stop with; absent when it has been made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint_operation_id: Option<String>,
    /// Why the savepoint of `savepointOperationId` could not be made. It is tried again for another generation of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint_failure: Option<String>,
    /// Whether a job of this resource has ever started: from then on `spec.job.initialSavepointPath` has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_started: Option<bool>,
    /// `spec.job.savepointRedeployNonce` as it was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint_redeploy_nonce: Option<i64>,
}

/// Whose a snapshot is that a job starts from; Flink's RecoveryClaimMode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClaimMode {
    /// It stays its owner's.
    NoClaim,
    /// It is the job's, which deletes it when it needs it no more.
    Claim,
}

impl ClaimMode {
    /// Flink's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoClaim => "NO_CLAIM",
            Self::Claim => "CLAIM",
        }
    }
}

/// Flink's JobStatus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // Flink's names
pub enum JobState {
    Initializing,
    Created,
    Running,
    Failing,
    Failed,
    Cancelling,
    Canceled,
    Finished,
    Restarting,
    Suspended,
    Reconciling,
}

impl JobState {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Initializing, "INITIALIZING"),
        (Self::Created, "CREATED"),
        (Self::Running, "RUNNING"),
        (Self::Failing, "FAILING"),
        (Self::Failed, "FAILED"),
        (Self::Cancelling, "CANCELLING"),
        (Self::Canceled, "CANCELED"),
        (Self::Finished, "FINISHED"),
        (Self::Restarting, "RESTARTING"),
        (Self::Suspended, "SUSPENDED"),
        (Self::Reconciling, "RECONCILING"),
    ];

    /// Reads Flink's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(state, _)| *state)
    }

    /// Flink's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("", |(_, name)| name)
    }

    /// Whether the job has ended for good: Flink's globally terminal states.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Canceled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a resource is in its life; the official operator's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum LifecycleState {
    /// Seen, its first pods on the way.
    Created,
    /// Not running by the user's wish.
    Suspended,
    /// Its spec changed; the new processes are on the way.
    Upgrading,
    /// Its JobManager runs, its job doesn't yet.
    Deployed,
    /// As wanted: the job runs, or has finished.
    Stable,
    /// Can't become as wanted without a change of the spec.
    Failed,
    /// Being deleted.
    Deleting,
}

impl LifecycleState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Suspended,
        Self::Upgrading,
        Self::Deployed,
        Self::Stable,
        Self::Failed,
        Self::Deleting,
    ];

    /// The spelling in a status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Suspended => "SUSPENDED",
            Self::Upgrading => "UPGRADING",
            Self::Deployed => "DEPLOYED",
            Self::Stable => "STABLE",
            Self::Failed => "FAILED",
            Self::Deleting => "DELETING",
        }
    }
}

/// The JobManager's Deployment; the official operator's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobManagerDeploymentStatus {
    /// Its pod is ready.
    Ready,
    /// Its pod runs and isn't ready.
    DeployedNotReady,
    /// Its pod doesn't run yet.
    Deploying,
    /// There is none.
    Missing,
    /// Its pod can't run.
    Error,
}

/// JobManagers that elect a leader (`high-availability.type`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobManagerStatus {
    /// Pods there are, those that end left out.
    pub replicas: i32,
    /// The pod that leads, or led last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The number of its leadership; each next one is higher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
}

/// The TaskManagers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskManagerStatus {
    /// Selects their pods.
    pub label_selector: String,
    /// Pods there are, those that end left out.
    pub replicas: i32,
}

/// Slots of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotStatus {
    /// Slots that the jobs need.
    pub required: i32,
    /// Slots that the registered TaskManagers have.
    pub total: i32,
    /// Those of them that are free; Flink's `slots-available`.
    pub available: i32,
}

/// Slots of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSlotStatus {
    /// Slots that the job needs.
    pub required: i32,
    /// Slots that it holds.
    pub held: i32,
}
