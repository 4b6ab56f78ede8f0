//! What a JobManager may do: read and renew its one Lease, which the operator makes (the right to create can't be
//! limited to a name).

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};

use super::metadata;
use crate::cluster::Cluster;
use crate::names;

/// The rights.
pub(crate) fn role(cluster: &Cluster) -> Role {
    Role {
        metadata: metadata(cluster, names::job_manager(&cluster.name)),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec!["coordination.k8s.io".into()]),
            resources: Some(vec!["leases".into()]),
            resource_names: Some(vec![names::job_manager(&cluster.name)]),
            verbs: ["get", "update", "patch"].map(String::from).to_vec(),
            ..PolicyRule::default()
        }]),
    }
}

/// Who has them.
pub(crate) fn role_binding(cluster: &Cluster) -> RoleBinding {
    let name = names::job_manager(&cluster.name);
    RoleBinding {
        metadata: metadata(cluster, name.clone()),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "Role".into(),
            name,
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: cluster.service_account_name(),
            namespace: Some(cluster.namespace.clone()),
            ..Subject::default()
        }]),
    }
}
