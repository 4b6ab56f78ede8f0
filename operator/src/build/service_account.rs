//! The ServiceAccount of a cluster's pods, unless its user brings one.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::cluster::Cluster;

/// None if the user names one of their own.
pub(crate) fn service_account(cluster: &Cluster) -> Option<ServiceAccount> {
    cluster.service_account.is_none().then(|| ServiceAccount {
        metadata: metadata(cluster, cluster.service_account_name()),
        // No pod of ours gets a token unless its template asks for one.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}
