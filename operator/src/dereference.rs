//! Reads what a decision needs, from the API server itself and not from a cache: what isn't there yet in a cache
//! would be made twice.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::cluster::ClusterKind;
use crate::names;

/// A cluster's objects.
#[derive(Debug, Default)]
pub(crate) struct Dereferenced {
    pub(crate) deployment: Option<Deployment>,
    pub(crate) pods: Vec<Pod>,
}

/// A read that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DereferenceError {
    #[error("the JobManager's Deployment can't be read")]
    GetDeployment(#[source] kube::Error),
    #[error("the cluster's pods can't be listed")]
    ListPods(#[source] kube::Error),
}

/// Reads the JobManager's Deployment and all pods of a cluster.
pub(crate) async fn dereference(
    client: &Client,
    kind: ClusterKind,
    namespace: &str,
    name: &str,
) -> Result<Dereferenced, DereferenceError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let deployment = deployments
        .get_opt(&names::job_manager(name))
        .await
        .map_err(DereferenceError::GetDeployment)?;
    let selected = ListParams::default().labels(&names::pod_selector(kind, name));
    let pods = pods
        .list(&selected)
        .await
        .map_err(DereferenceError::ListPods)?
        .items;
    Ok(Dereferenced { deployment, pods })
}
