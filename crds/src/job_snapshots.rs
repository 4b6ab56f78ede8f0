//! What a job's status says of its savepoints and checkpoints: the newest one, and those that the operator is to have taken.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::snapshot::{SavepointFormatType, SnapshotTriggerType, SnapshotType};

/// The official operator's SavepointInfo.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SavepointInfo {
    /// The newest completed savepoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_savepoint: Option<Savepoint>,
}

/// A completed savepoint of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Savepoint {
    /// When it was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_stamp: Option<Time>,
    /// Where it is.
    pub location: String,
    /// Why it was taken.
    pub trigger_type: SnapshotTriggerType,
    /// Its format.
    pub format_type: SavepointFormatType,
    /// The nonce by which it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_nonce: Option<i64>,
}

/// What the operator has asked for by FlinkStateSnapshots of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestedSnapshots {
    /// `spec.job.savepointTriggerNonce` as it was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint_trigger_nonce: Option<i64>,
    /// `spec.job.checkpointTriggerNonce` as it was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_trigger_nonce: Option<i64>,
    /// When the last periodic savepoint was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_periodic_savepoint_timestamp: Option<Time>,
    /// When the last periodic checkpoint was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_periodic_checkpoint_timestamp: Option<Time>,
    /// FlinkStateSnapshots that are about to be created; written before they are, so that each is created once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub pending: Vec<PendingSnapshot>,
}

/// A FlinkStateSnapshot that is about to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingSnapshot {
    /// Its name.
    pub name: String,
    /// What it is.
    pub snapshot_type: SnapshotType,
    /// Why.
    pub trigger_type: SnapshotTriggerType,
    /// The nonce by which it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_nonce: Option<i64>,
    /// Where the savepoint is with which the job was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}
