//! A validated cluster: what a FlinkApplication or FlinkSession asks for, with every default resolved.
//! Only `validate` makes one, so what builds on it need not check again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use thalweg_crds::UpgradeMode;

use crate::policy::Policy;

/// Which kind a cluster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClusterKind {
    Application,
    Session,
}

impl ClusterKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Application => "FlinkApplication",
            Self::Session => "FlinkSession",
        }
    }
}

/// A validated FlinkApplication or FlinkSession.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) kind: ClusterKind,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) owner: OwnerReference,
    pub(crate) image: String,
    pub(crate) image_pinned: bool,
    pub(crate) image_pull_policy: Option<&'static str>,
    /// The user's own ServiceAccount; none: one is made.
    pub(crate) service_account: Option<String>,
    /// The user's configuration, flat; keys that the operator sets are not in it.
    pub(crate) configuration: BTreeMap<String, String>,
    pub(crate) slots: u32,
    pub(crate) job_manager: Process,
    pub(crate) task_manager: Process,
    /// JobManagers, one of which leads.
    pub(crate) job_manager_replicas: u32,
    /// How JobManagers agree on who leads.
    pub(crate) high_availability: HighAvailability,
    /// Fixed number of TaskManagers; none: as many as the slots need.
    pub(crate) task_manager_replicas: Option<u32>,
    pub(crate) restart_nonce: Option<i64>,
    pub(crate) ingress: Option<Ingress>,
    /// The job of an application.
    pub(crate) job: Option<Job>,
}

/// `high-availability.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum HighAvailability {
    /// Its jobs end with a JobManager.
    #[default]
    None,
    /// A Lease says who should lead, the log in storage who does.
    Kubernetes,
    /// The log in storage alone.
    Storage,
}

/// What a pod of a role gets.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Process {
    pub(crate) cpu: Option<f64>,
    /// Limit of CPU by its request; 1 as in Flink.
    pub(crate) cpu_limit_factor: f64,
    pub(crate) memory_bytes: u64,
    pub(crate) ephemeral_storage_bytes: Option<u64>,
    /// `spec.podTemplate` with the role's own over it.
    pub(crate) pod_template: PodTemplateSpec,
}

/// An application's job.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Job {
    /// Empty of a script.
    pub(crate) package_uri: String,
    pub(crate) package_sha256: Option<String>,
    /// A script, in place of a package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sql: Option<String>,
    pub(crate) args: Vec<String>,
    pub(crate) parallelism: Option<u32>,
    #[serde(skip)]
    pub(crate) suspended: bool,
    #[serde(skip)]
    pub(crate) upgrade_mode: UpgradeMode,
    #[serde(skip)]
    pub(crate) initial_savepoint_path: Option<String>,
    #[serde(skip)]
    pub(crate) allow_non_restored_state: bool,
    /// Part of the hash: another one is another start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) savepoint_redeploy_nonce: Option<i64>,
    #[serde(skip)]
    pub(crate) savepoint_trigger_nonce: Option<i64>,
    #[serde(skip)]
    pub(crate) checkpoint_trigger_nonce: Option<i64>,
    #[serde(skip)]
    pub(crate) policy: Policy,
}

/// The Ingress, its template rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ingress {
    pub(crate) host: Option<String>,
    pub(crate) path: String,
    pub(crate) class_name: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) tls: Vec<(Vec<String>, Option<String>)>,
}

/// Keys that only the JobManager reads, or that travel to the tasks with the JobGraph: no reason to replace TaskManagers.
const NOT_FOR_TASK_MANAGERS: [&str; 8] = [
    "jobmanager.",
    "rest.",
    "parallelism.",
    "pipeline.",
    "execution.",
    "restart-strategy.",
    "table.",
    "client.",
];

impl Cluster {
    /// Whether jobs outlive their JobManager.
    pub(crate) fn is_highly_available(&self) -> bool {
        self.high_availability != HighAvailability::None
    }

    pub(crate) fn suspended(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.suspended)
    }

    /// Parallelism of the job until the JobManager knows its graph.
    pub(crate) fn parallelism(&self) -> u32 {
        let configured = || {
            self.configuration
                .get("parallelism.default")
                .and_then(|text| text.parse().ok())
        };
        self.job
            .as_ref()
            .and_then(|job| job.parallelism)
            .or_else(configured)
            .unwrap_or(1)
    }

    /// TaskManagers that hold this many slots.
    pub(crate) fn task_managers_for(&self, slots: u32) -> u32 {
        slots.div_ceil(self.slots.max(1))
    }

    pub(crate) fn service_account_name(&self) -> String {
        self.service_account
            .clone()
            .unwrap_or_else(|| crate::names::job_manager(&self.name))
    }

    /// Hash of everything that the JobManager is built from: inputs, not built objects, so that an operator which
    /// builds them differently restarts no job.
    pub(crate) fn job_manager_hash(&self) -> String {
        let configuration = self.configuration_where(|key| !key.starts_with("taskmanager."));
        hash(&json!({
            "common": self.common_inputs(), "process": self.job_manager, "job": self.job,
            "configuration": configuration,
        }))
    }

    /// The same for TaskManagers.
    pub(crate) fn task_manager_hash(&self) -> String {
        let configuration = self
            .configuration_where(|key| !NOT_FOR_TASK_MANAGERS.iter().any(|prefix| key.starts_with(prefix)));
        hash(&json!({
            "common": self.common_inputs(), "process": self.task_manager, "configuration": configuration,
        }))
    }

    fn common_inputs(&self) -> serde_json::Value {
        json!({
            "image": self.image, "imagePullPolicy": self.image_pull_policy,
            "serviceAccount": self.service_account, "restartNonce": self.restart_nonce,
        })
    }

    fn configuration_where(&self, keep: impl Fn(&str) -> bool) -> BTreeMap<&str, &str> {
        let entries = self.configuration.iter().filter(|(key, _)| keep(key));
        entries
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }
}

/// 16 hex digits over a value's JSON, whose maps are sorted.
pub(crate) fn hash(value: &serde_json::Value) -> String {
    hash_bytes(value.to_string().as_bytes(), 8)
}

/// The first bytes of the SHA-256, in hex.
pub(crate) fn hash_bytes(bytes: &[u8], length: usize) -> String {
    let digest = Sha256::digest(bytes);
    hex::encode(digest.get(..length).unwrap_or_default())
}
