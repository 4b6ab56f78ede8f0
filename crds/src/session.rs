//! FlinkSession: a cluster that many jobs share.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterFields;
use crate::status::ClusterStatus;

/// A long-running JobManager and TaskManagers for FlinkSessionJobs and jobs submitted by REST.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "thalweg.dev",
    version = "v1alpha1",
    kind = "FlinkSession",
    plural = "flinksessions",
    namespaced,
    status = "ClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A long-running JobManager and TaskManagers that many jobs share.",
    shortname = "fsess",
    shortname = "thsess",
    category = "thalweg",
    scale(
        spec_replicas_path = ".spec.taskManager.replicas",
        status_replicas_path = ".status.taskManager.replicas",
        label_selector_path = ".status.taskManager.labelSelector"
    ),
    printcolumn(
        name = "JobManager",
        type_ = "string",
        json_path = ".status.jobManagerDeploymentStatus"
    ),
    printcolumn(name = "Lifecycle", type_ = "string", json_path = ".status.lifecycleState"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Slots",
        type_ = "integer",
        json_path = ".status.slots.total",
        priority = 1
    ),
    printcolumn(name = "Error", type_ = "string", json_path = ".status.error", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct FlinkSessionSpec {
    /// The cluster.
    #[serde(flatten)]
    pub cluster: ClusterFields,
}
