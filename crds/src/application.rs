//! FlinkApplication: one job with a cluster of its own.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterFields;
use crate::job::JobSpec;
use crate::status::ClusterStatus;

/// One packaged job, its JobManager and its TaskManagers.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "thalweg.dev",
    version = "v1alpha1",
    kind = "FlinkApplication",
    plural = "flinkapplications",
    namespaced,
    status = "ClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One packaged job with a JobManager and TaskManagers of its own.",
    shortname = "fapp",
    shortname = "thapp",
    category = "thalweg",
    scale(
        spec_replicas_path = ".spec.taskManager.replicas",
        status_replicas_path = ".status.taskManager.replicas",
        label_selector_path = ".status.taskManager.labelSelector"
    ),
    printcolumn(name = "Job State", type_ = "string", json_path = ".status.jobStatus.state"),
    printcolumn(name = "Lifecycle", type_ = "string", json_path = ".status.lifecycleState"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Slots",
        type_ = "integer",
        json_path = ".status.slots.total",
        priority = 1
    ),
    printcolumn(
        name = "Restarts",
        type_ = "integer",
        json_path = ".status.jobStatus.restarts",
        priority = 1
    ),
    printcolumn(name = "Error", type_ = "string", json_path = ".status.error", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct FlinkApplicationSpec {
    /// The cluster.
    #[serde(flatten)]
    pub cluster: ClusterFields,
    /// The job.
    pub job: JobSpec,
}
