//! The PodDisruptionBudget of JobManagers that stand by for each other.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::cluster::Cluster;
use crate::names;

/// Whoever drains nodes takes one JobManager at a time, and the next when the first one's successor is ready. None where there
/// is one only: it would keep a node from being drained.
pub(crate) fn disruption_budget(cluster: &Cluster) -> Option<PodDisruptionBudget> {
    (cluster.job_manager_replicas > 1).then(|| PodDisruptionBudget {
        metadata: metadata(cluster, names::job_manager(&cluster.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector_labels(cluster, names::COMPONENT_JOB_MANAGER)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}
