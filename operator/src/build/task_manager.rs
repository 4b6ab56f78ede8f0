//! A TaskManager's pod.

use k8s_openapi::api::core::v1::{EnvVar, Pod};

use super::pod::{self, Parts};
use super::{METRICS_PORT, metadata, pod_labels};
use crate::cluster::Cluster;
use crate::names;

/// A bare pod: it is deleted by name, so that the idle one goes and one on a vanished node is replaced at once.
pub(crate) fn task_manager(cluster: &Cluster, hash: &str, ordinal: u32) -> Pod {
    let address = EnvVar {
        name: "JOB_MANAGER_RPC_ADDRESS".into(),
        value: Some(names::job_manager_address(cluster)),
        value_from: None,
    };
    let parts = Parts {
        labels: pod_labels(cluster, names::COMPONENT_TASK_MANAGER, hash),
        args: vec!["taskmanager".into()],
        env: vec![address],
        ports: vec![("metrics", METRICS_PORT)],
        readiness_probe: None,
        work_volume: true,
    };
    let template = pod::template(cluster, &cluster.task_manager, parts);
    let ours = metadata(cluster, names::task_manager(&cluster.name, hash, ordinal));
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = ours.name;
    metadata.namespace = ours.namespace;
    metadata.owner_references = ours.owner_references;
    metadata
        .labels
        .get_or_insert_default()
        .insert(names::LABEL_ORDINAL.into(), ordinal.to_string());
    let mut spec = template.spec.unwrap_or_default();
    // User code runs here: never a token, whatever the template says.
    spec.automount_service_account_token = Some(false);
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}
