//! FlinkSessionJob: one job in a FlinkSession.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::JobSpec;
use crate::schema;
use crate::status::SessionJobStatus;

/// A packaged job that runs in a FlinkSession of the same namespace.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "thalweg.dev",
    version = "v1alpha1",
    kind = "FlinkSessionJob",
    plural = "flinksessionjobs",
    namespaced,
    status = "SessionJobStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One packaged job in a FlinkSession of the same namespace.",
    shortname = "fsjob",
    shortname = "thsjob",
    category = "thalweg",
    selectable = ".spec.sessionName",
    printcolumn(name = "Session", type_ = "string", json_path = ".spec.sessionName"),
    printcolumn(name = "Job State", type_ = "string", json_path = ".status.jobStatus.state"),
    printcolumn(name = "Lifecycle", type_ = "string", json_path = ".status.lifecycleState"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Restarts",
        type_ = "integer",
        json_path = ".status.jobStatus.restarts",
        priority = 1
    ),
    printcolumn(name = "Error", type_ = "string", json_path = ".status.error", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct FlinkSessionJobSpec {
    /// Name of the FlinkSession, in the same namespace; can't be changed.
    #[schemars(
        length(min = 1, max = 45),
        extend("x-kubernetes-validations" = [{
            "rule": "self == oldSelf",
            "message": "sessionName can't be changed; delete the FlinkSessionJob and create it for the other session"
        }])
    )]
    pub session_name: String,
    /// The job.
    pub job: JobSpec,
    /// The job's own configuration, over the session's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::configuration")]
    pub flink_configuration: Option<BTreeMap<String, Value>>,
    /// Another value cancels the job and submits it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_nonce: Option<i64>,
}
