//! The JobManager's Lease, empty until a JobManager takes it.

use k8s_openapi::api::coordination::v1::Lease;

use super::metadata;
use crate::cluster::Cluster;
use crate::names;

/// No spec: whoever leads writes it.
pub(crate) fn lease(cluster: &Cluster) -> Lease {
    Lease {
        metadata: metadata(cluster, names::job_manager(&cluster.name)),
        spec: None,
    }
}
