//! Names and labels of everything that belongs to a cluster; each derives from the resource's name, which has 45
//! characters at most.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, ClusterKind};

/// Field manager of server-side apply, and `app.kubernetes.io/managed-by`.
pub(crate) const MANAGER: &str = "thalweg-operator";
/// Finalizer of our kinds.
pub(crate) const FINALIZER: &str = "thalweg.dev/operator";
/// The container that runs Thalweg in each pod, as in Flink's own Kubernetes integration.
pub(crate) const MAIN_CONTAINER: &str = "flink-main-container";

pub(crate) const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(crate) const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
pub(crate) const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
pub(crate) const LABEL_KIND: &str = "thalweg.dev/kind";
/// Hash of what a pod was built from: another hash means that the pod is replaced.
pub(crate) const LABEL_SPEC_HASH: &str = "thalweg.dev/spec-hash";
pub(crate) const LABEL_ORDINAL: &str = "thalweg.dev/ordinal";
// Of FlinkStateSnapshots; the official operator's.
pub(crate) const LABEL_SNAPSHOT_TYPE: &str = "snapshot.type";
pub(crate) const LABEL_SNAPSHOT_TRIGGER_TYPE: &str = "snapshot.trigger-type";
pub(crate) const LABEL_SNAPSHOT_STATE: &str = "snapshot.state";
pub(crate) const LABEL_JOB_REFERENCE_KIND: &str = "job-reference.kind";
pub(crate) const LABEL_JOB_REFERENCE_NAME: &str = "job-reference.name";
/// On a FlinkStateSnapshot that a nonce asked for: the nonce.
pub(crate) const ANNOTATION_TRIGGER_NONCE: &str = "thalweg.dev/trigger-nonce";
/// On the JobManager's Deployment: which start of it this is.
pub(crate) const ANNOTATION_OPERATION_ID: &str = "thalweg.dev/operation-id";

/// On the JobManager's Deployment: its pods are candidates, one of which leads.
pub(crate) const ANNOTATION_HIGH_AVAILABILITY: &str = "thalweg.dev/high-availability";

pub(crate) const COMPONENT_JOB_MANAGER: &str = "jobmanager";
pub(crate) const COMPONENT_TASK_MANAGER: &str = "taskmanager";

/// The JobManager's Deployment, headless Service, ServiceAccount, Role, RoleBinding, Lease and PodDisruptionBudget.
pub(crate) fn job_manager(name: &str) -> String {
    format!("{name}-jobmanager")
}

/// The Service and the Ingress of the REST API.
pub(crate) fn rest(name: &str) -> String {
    format!("{name}-rest")
}

/// The ConfigMap with `config.yaml`.
pub(crate) fn config(name: &str) -> String {
    format!("{name}-config")
}

/// A TaskManager pod. The same spec and ordinal give the same name, so making it twice makes one pod.
pub(crate) fn task_manager(name: &str, hash: &str, ordinal: u32) -> String {
    let short = hash.get(..8).unwrap_or(hash);
    format!("{name}-taskmanager-{short}-{ordinal}")
}

/// Address at which TaskManagers find the JobManager; resolves through the pods' search domains.
pub(crate) fn job_manager_address(cluster: &Cluster) -> String {
    format!("{}.{}", job_manager(&cluster.name), cluster.namespace)
}

/// Where JobManagers of a cluster leave what they know for each other, below `high-availability.storageDir`: the same over
/// all starts of a resource, so that a leader of an earlier start is fenced, and another's if the resource is made anew.
pub(crate) fn high_availability_cluster_id(cluster: &Cluster) -> String {
    format!("{}/{}/{}", cluster.namespace, cluster.name, cluster.uid)
}

/// Labels that select what belongs to one cluster.
pub(crate) fn selector_labels(cluster: &Cluster, component: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_INSTANCE.into(), cluster.name.clone()),
        (LABEL_COMPONENT.into(), component.into()),
        (LABEL_KIND.into(), cluster.kind.as_str().into()),
    ])
}

/// Labels of each object of a cluster.
pub(crate) fn object_labels(cluster: &Cluster) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".into(), "thalweg".into()),
        (LABEL_MANAGED_BY.into(), MANAGER.into()),
        (LABEL_INSTANCE.into(), cluster.name.clone()),
        (LABEL_KIND.into(), cluster.kind.as_str().into()),
    ])
}

/// Label selector for every pod of one cluster.
pub(crate) fn pod_selector(kind: ClusterKind, name: &str) -> String {
    format!(
        "{LABEL_MANAGED_BY}={MANAGER},{LABEL_KIND}={},{LABEL_INSTANCE}={name}",
        kind.as_str()
    )
}

/// Label selector for the TaskManagers of one cluster, as the scale subresource reports it.
pub(crate) fn task_manager_selector(kind: ClusterKind, name: &str) -> String {
    format!(
        "{},{LABEL_COMPONENT}={COMPONENT_TASK_MANAGER}",
        pod_selector(kind, name)
    )
}

/// Label selector for every object of a kind's clusters.
pub(crate) fn kind_selector(kind: ClusterKind) -> String {
    format!("{LABEL_MANAGED_BY}={MANAGER},{LABEL_KIND}={}", kind.as_str())
}
