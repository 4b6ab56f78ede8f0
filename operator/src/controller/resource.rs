//! What the kinds have in common as resources: finalizer, status, owner reference.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thalweg_crds::{
    ClusterFields, ClusterStatus, FlinkApplication, FlinkSession, JobSpec, RecoveryStatus, UpgradeMode,
};

use super::{ReconcileError, explain};
use crate::cluster::ClusterKind;
use crate::names::{FINALIZER, MANAGER};
use crate::policy::has_operator_keys;

/// A custom resource of ours.
pub(crate) trait CustomResource:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> CustomResource for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// A resource that stands for a cluster.
pub(crate) trait ClusterResource: CustomResource {
    const KIND: ClusterKind;
    fn fields(&self) -> &ClusterFields;
    fn job(&self) -> Option<&JobSpec>;
    fn cluster_status(&self) -> Option<&ClusterStatus>;
}

impl ClusterResource for FlinkApplication {
    const KIND: ClusterKind = ClusterKind::Application;
    fn fields(&self) -> &ClusterFields {
        &self.spec.cluster
    }
    fn job(&self) -> Option<&JobSpec> {
        Some(&self.spec.job)
    }
    fn cluster_status(&self) -> Option<&ClusterStatus> {
        self.status.as_ref()
    }
}

impl ClusterResource for FlinkSession {
    const KIND: ClusterKind = ClusterKind::Session;
    fn fields(&self) -> &ClusterFields {
        &self.spec.cluster
    }
    fn job(&self) -> Option<&JobSpec> {
        None
    }
    fn cluster_status(&self) -> Option<&ClusterStatus> {
        self.status.as_ref()
    }
}

/// A status that can't be written.
#[derive(Debug, thiserror::Error)]
#[error("the status of {kind} {name} can't be written")]
pub(crate) struct StatusPatchError {
    kind: String,
    name: String,
    #[source]
    source: kube::Error,
}

/// The reference by which the garbage collector knows what belongs to a resource.
pub(crate) fn owner_reference<K: CustomResource>(resource: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: resource.name_any(),
        uid: resource.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The resource as the API server has it; none: it is gone. What a job's state depends on is not decided from a cache,
/// which may not show yet what the last pass wrote.
pub(crate) async fn read<K: CustomResource>(
    client: &Client,
    resource: &K,
) -> Result<Option<K>, ReconcileError> {
    let found = api_of(client, resource).get_opt(&resource.name_any()).await;
    let found = found.map_err(ReconcileError::Read)?;
    Ok(found.filter(|found| found.uid() == resource.uid()))
}

/// Whether a pass over a resource decides what must not be decided twice: its job's state is kept between its starts, or snapshots
/// are asked for.
pub(crate) fn keeps_state(
    job: Option<&JobSpec>,
    configuration: Option<&BTreeMap<String, Value>>,
    recovery: Option<&RecoveryStatus>,
) -> bool {
    let nonces = |job: &JobSpec| {
        job.savepoint_trigger_nonce.is_some()
            || job.checkpoint_trigger_nonce.is_some()
            || job.savepoint_redeploy_nonce.is_some()
    };
    if job.is_some_and(|job| nonces(job) || has_operator_keys(configuration)) {
        return true;
    }
    let mode = job.and_then(|job| job.upgrade_mode).unwrap_or_default();
    mode != UpgradeMode::Stateless
        || job.is_some_and(|job| job.initial_savepoint_path.is_some())
        || recovery.is_some_and(|recovery| recovery.savepoint_operation_id.is_some())
}

fn api_of<K: CustomResource>(client: &Client, resource: &K) -> Api<K> {
    Api::namespaced(client.clone(), &resource.namespace().unwrap_or_default())
}

pub(crate) fn has_finalizer<K: CustomResource>(resource: &K) -> bool {
    resource
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == FINALIZER)
}

/// Adds our finalizer, before anything is made that it is to clean up.
pub(crate) async fn add_finalizer<K: CustomResource>(
    client: &Client,
    resource: &K,
) -> Result<(), ReconcileError> {
    let finalizers: Vec<String> = resource
        .finalizers()
        .iter()
        .cloned()
        .chain([FINALIZER.to_owned()])
        .collect();
    set_finalizers(client, resource, &finalizers).await
}

/// Removes it; a resource that is gone by now is fine.
pub(crate) async fn remove_finalizer<K: CustomResource>(
    client: &Client,
    resource: &K,
) -> Result<(), ReconcileError> {
    let others: Vec<String> = resource
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .cloned()
        .collect();
    match set_finalizers(client, resource, &others).await {
        Err(ReconcileError::Finalizer(kube::Error::Api(status))) if status.is_not_found() => Ok(()),
        other => other,
    }
}

/// Conditional on the resourceVersion: somebody else's finalizer isn't lost.
async fn set_finalizers<K: CustomResource>(
    client: &Client,
    resource: &K,
    finalizers: &[String],
) -> Result<(), ReconcileError> {
    let patch = json!({"metadata": {
        "finalizers": finalizers, "resourceVersion": resource.resource_version(), "uid": resource.uid(),
    }});
    let api = api_of(client, resource);
    let answer = api
        .patch(
            &resource.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await;
    answer.map(|_| ()).map_err(ReconcileError::Finalizer)
}

/// Applies a status; the uid makes sure that it isn't another resource of the same name by now.
pub(crate) async fn write_status<K: CustomResource>(
    client: &Client,
    resource: &K,
    status: &impl Serialize,
) -> Result<(), StatusPatchError> {
    let name = resource.name_any();
    let patch = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": {"name": name, "uid": resource.uid()},
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    match api_of(client, resource)
        .patch_status(&name, &parameters, &Patch::Apply(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            tracing::debug!(
                name,
                "is gone; its status isn't written: {}",
                explain(&kube::Error::Api(status))
            );
            Ok(())
        }
        Err(source) => Err(StatusPatchError {
            kind: K::kind(&()).into_owned(),
            name,
            source,
        }),
    }
}
