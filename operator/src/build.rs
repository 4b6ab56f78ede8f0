//! From a validated [`Cluster`] to the objects that it needs: pure, one file a Kubernetes kind.
//!
//! ```text
//!   Cluster --+--> ServiceAccount, Role, RoleBinding, Lease     may touch nothing but its one Lease
//!             +--> ConfigMap                                    config.yaml
//!             +--> Services: headless (control), REST; Ingress
//!             +--> Deployment, PodDisruptionBudget              the JobManager and its standbys
//!             +--> Pods                                         the TaskManagers
//!   PendingSnapshot --> FlinkStateSnapshot                      belongs to nobody
//! ```
//! Each object carries the owner reference and the labels of `names`.

mod config_map;
mod disruption_budget;
mod ingress;
mod job_manager;
mod lease;
mod pod;
mod rbac;
mod service;
mod service_account;
mod snapshot;
mod task_manager;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(crate) use config_map::{RETENTION_KEY, config_map};
pub(crate) use disruption_budget::disruption_budget;
pub(crate) use ingress::ingress;
pub(crate) use job_manager::job_manager;
pub(crate) use lease::lease;
pub(crate) use rbac::{role, role_binding};
pub(crate) use service::{job_manager_service, rest_service};
pub(crate) use service_account::service_account;
pub(crate) use snapshot::{SnapshotOf, snapshot, snapshot_labels};
pub(crate) use task_manager::task_manager;

use crate::cluster::Cluster;
use crate::names;

/// Control-plane gRPC: `control.v1` for TaskManagers, `cluster.v1` for the operator.
pub(crate) const RPC_PORT: i32 = 6123;
/// REST.
pub(crate) const REST_PORT: i32 = 8081;
/// Prometheus.
pub(crate) const METRICS_PORT: i32 = 9249;

/// Metadata of an object of a cluster.
fn metadata(cluster: &Cluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(names::object_labels(cluster)),
        owner_references: Some(vec![cluster.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Labels of a pod, its spec hash among them.
fn pod_labels(cluster: &Cluster, component: &str, hash: &str) -> BTreeMap<String, String> {
    let mut labels = names::object_labels(cluster);
    labels.extend(names::selector_labels(cluster, component));
    labels.insert(names::LABEL_SPEC_HASH.into(), hash.into());
    labels
}
