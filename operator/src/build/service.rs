//! The two Services of a JobManager.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{METRICS_PORT, REST_PORT, RPC_PORT, metadata};
use crate::cluster::Cluster;
use crate::names;

/// Headless: TaskManagers dial every JobManager pod, also one that isn't ready, which it becomes later than they come.
pub(crate) fn job_manager_service(cluster: &Cluster) -> Service {
    Service {
        metadata: metadata(cluster, names::job_manager(&cluster.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector_labels(cluster, names::COMPONENT_JOB_MANAGER)),
            ports: Some(vec![port("rpc", RPC_PORT), port("metrics", METRICS_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// REST.
pub(crate) fn rest_service(cluster: &Cluster) -> Service {
    Service {
        metadata: metadata(cluster, names::rest(&cluster.name)),
        spec: Some(ServiceSpec {
            selector: Some(names::selector_labels(cluster, names::COMPONENT_JOB_MANAGER)),
            ports: Some(vec![port("rest", REST_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(number)),
        ..ServicePort::default()
    }
}
