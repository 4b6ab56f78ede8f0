//! What a FlinkApplication and a FlinkSession have in common: the cluster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// The cluster part of a spec.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFields {
    /// Image of the JobManager and TaskManager pods. Unset: the operator's default, pinned in `status.image` when the
    /// resource is first seen, so that a newer operator restarts no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When the image is pulled. Unset: as Kubernetes does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Existing ServiceAccount of the pods. Unset: one is made, `<name>-jobmanager`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account: Option<String>,
    /// Configuration by Flink's keys, flat or nested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::configuration")]
    pub flink_configuration: Option<BTreeMap<String, Value>>,
    /// Pod template for JobManager and TaskManagers; the main container is `flink-main-container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pod_template")]
    pub pod_template: Option<Value>,
    /// The JobManager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_manager: Option<ProcessSpec>,
    /// The TaskManagers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_manager: Option<ProcessSpec>,
    /// Another value restarts JobManager and TaskManagers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_nonce: Option<i64>,
    /// An Ingress for the REST service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
}

/// When Kubernetes pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// When the node doesn't have it.
    IfNotPresent,
    /// Never.
    Never,
}

impl ImagePullPolicy {
    /// Kubernetes' spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// JobManager or TaskManager processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessSpec {
    /// Number of pods. For TaskManagers unset means: as many as the job's slots need. More than one JobManager needs
    /// `high-availability.type: kubernetes` and `high-availability.storageDir`: one leads, the others stand by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub replicas: Option<i32>,
    /// What one pod gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// Pod template over `spec.podTemplate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pod_template")]
    pub pod_template: Option<Value>,
}

/// Requests and limits of a pod's main container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// CPU cores. Unset: no request and no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub cpu: Option<f64>,
    /// Memory in Flink's notation (`2048m`, `2g`) or Kubernetes' (`2Gi`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub memory: Option<String>,
    /// Ephemeral storage, in the same notations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub ephemeral_storage: Option<String>,
}

/// An Ingress for the REST service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressSpec {
    /// Host and path, with the variables `{{name}}` and `{{namespace}}`: `{{name}}.{{namespace}}.example.com`
    /// or `example.com/{{namespace}}/{{name}}(/|$)(.*)`.
    #[schemars(length(min = 1, max = 1024))]
    pub template: String,
    /// IngressClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub class_name: Option<String>,
    /// Annotations of the Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Labels of the Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// TLS hosts and secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Vec<IngressTls>>,
}

/// TLS of some hosts of an Ingress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// Hosts in the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// Secret with the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}
