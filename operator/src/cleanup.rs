//! Deletes what a cluster's pods needed, once the pods are gone.
//!
//! By owner reference the garbage collector would do it too, but it learns of kinds only every 30 s: after an installation,
//! or a restart of the controller manager, what belongs to the first deleted resource would stay for so long.
//!
//! Invariants: only what the resource owns is deleted, and only the very object that was seen.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::apply::ApplyError;
use crate::names;

/// A resource that goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departing<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
}

/// Deletes the objects of a cluster but its Deployment and pods; what isn't there, or isn't its own, is fine.
pub(crate) async fn delete_surroundings(client: &Client, departing: Departing<'_>) -> Result<(), ApplyError> {
    let main = names::job_manager(departing.name);
    let rest = names::rest(departing.name);
    let config = names::config(departing.name);
    futures::try_join!(
        delete_owned::<ServiceAccount>(client, departing, &main),
        delete_owned::<Lease>(client, departing, &main),
        delete_owned::<Role>(client, departing, &main),
        delete_owned::<RoleBinding>(client, departing, &main),
        delete_owned::<ConfigMap>(client, departing, &config),
        delete_owned::<Service>(client, departing, &main),
        delete_owned::<Service>(client, departing, &rest),
        delete_owned::<Ingress>(client, departing, &rest),
        delete_owned::<PodDisruptionBudget>(client, departing, &main),
    )?;
    Ok(())
}

async fn delete_owned<K>(client: &Client, departing: Departing<'_>, name: &str) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), departing.namespace);
    let failed = |source| ApplyError::Delete {
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        source,
    };
    let Some(found) = api.get_metadata_opt(name).await.map_err(failed)? else {
        return Ok(());
    };
    let owned = found
        .owner_references()
        .iter()
        .any(|owner| owner.uid == departing.uid);
    if !owned {
        return Ok(());
    }
    let parameters = DeleteParams::background().preconditions(Preconditions {
        uid: found.uid(),
        resource_version: None,
    });
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(failed(source)),
    }
}
