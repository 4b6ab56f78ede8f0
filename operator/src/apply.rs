//! Writes to the API server. Every write can be repeated: server-side apply, creation by a name that follows from the
//! spec, deletion of what has the uid that was seen.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::build;
use crate::cluster::{Cluster, hash};
use crate::names::{self, MANAGER};
use crate::plan::{Goal, JobManagerAction, Plan, PodDeletion};

/// A write that failed; says of which object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("{kind} {name} can't be applied")]
    Apply {
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("pod {name} can't be created")]
    CreatePod {
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("pod {name} can't be deleted")]
    DeletePod {
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("Deployment {name} can't be deleted")]
    DeleteDeployment {
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("{kind} {name} can't be deleted")]
    Delete {
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("config.yaml can't be written")]
    Configuration(#[source] serde_yaml::Error),
}

/// An object was applied less than this ago: not again, unless it changed.
const APPLIED_FOR: Duration = Duration::from_secs(300);
/// More objects than this are not remembered.
const APPLIED_MAX: usize = 100_000;
/// Of TaskManager pods.
const CREATIONS_AT_ONCE: usize = 16;

/// Remembers what was applied, so that a reconciliation with nothing to do writes nothing. An object that somebody
/// else changed or deleted is forgotten as soon as the watch tells (`changed`).
#[derive(Debug, Default)]
pub(crate) struct Applied {
    entries: Mutex<HashMap<ObjectKey, Entry>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ObjectKey {
    kind: String,
    namespace: String,
    name: String,
}

#[derive(Debug)]
struct Entry {
    hash: String,
    resource_version: Option<String>,
    at: Instant,
}

impl Applied {
    fn key<K: Resource<DynamicType = ()>>(object: &K) -> ObjectKey {
        ObjectKey {
            kind: K::kind(&()).into_owned(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }

    fn is_current(&self, key: &ObjectKey, hash: &str) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(key)
            .is_some_and(|entry| entry.hash == hash && entry.at.elapsed() < APPLIED_FOR)
    }

    fn record(&self, key: ObjectKey, hash: String, resource_version: Option<String>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= APPLIED_MAX {
            entries.clear();
        }
        entries.insert(
            key,
            Entry {
                hash,
                resource_version,
                at: Instant::now(),
            },
        );
    }

    /// A watch saw the object: forgets it if that isn't what we wrote. Whether it had changed.
    pub(crate) fn changed<K: Resource<DynamicType = ()>>(&self, object: &K) -> bool {
        let key = Self::key(object);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let same = entries
            .get(&key)
            .is_some_and(|entry| entry.resource_version == object.resource_version());
        if !same {
            entries.remove(&key);
        }
        !same
    }

    /// Forgets everything of a cluster that is gone.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let derived = [names::job_manager(name), names::rest(name), names::config(name)];
        entries.retain(|key, _| key.namespace != namespace || !derived.contains(&key.name));
    }
}

/// Applies a plan: first what the pods need, then the pods. Within each step the writes don't wait for each other: with
/// an answer after tens of milliseconds, one after the other would be most of the time that a start takes here.
pub(crate) async fn apply(
    client: &Client,
    applied: &Applied,
    cluster: &Cluster,
    plan: &Plan,
) -> Result<(), ApplyError> {
    apply_surroundings(client, applied, cluster, plan).await?;
    let task_managers = async {
        delete_pods(client, &cluster.namespace, &plan.delete).await?;
        create_task_managers(client, cluster, plan).await
    };
    futures::try_join!(apply_job_manager(client, cluster, plan), task_managers)?;
    Ok(())
}

async fn apply_surroundings(
    client: &Client,
    applied: &Applied,
    cluster: &Cluster,
    plan: &Plan,
) -> Result<(), ApplyError> {
    let namespace = &cluster.namespace;
    let (service_account, lease) = (build::service_account(cluster), build::lease(cluster));
    let (role, role_binding) = (build::role(cluster), build::role_binding(cluster));
    let config_map = build::config_map(cluster).map_err(ApplyError::Configuration)?;
    // A job that is about to stop keeps the configuration that it was started with.
    let config_map = Some(config_map).filter(|_| plan.goal != Goal::Stopping);
    let services = (build::job_manager_service(cluster), build::rest_service(cluster));
    let ingress = build::ingress(cluster);
    let disruption_budget = build::disruption_budget(cluster);
    // One after the other: the API server takes a binding only to a role that it can read.
    let rights = async {
        ensure(client, applied, namespace, &role).await?;
        ensure(client, applied, namespace, &role_binding).await
    };
    futures::try_join!(
        ensure_some(client, applied, namespace, service_account.as_ref()),
        ensure(client, applied, namespace, &lease),
        rights,
        ensure_some(client, applied, namespace, config_map.as_ref()),
        ensure(client, applied, namespace, &services.0),
        ensure(client, applied, namespace, &services.1),
        ensure_some(client, applied, namespace, ingress.as_ref()),
        ensure_some(client, applied, namespace, disruption_budget.as_ref()),
    )?;
    Ok(())
}

async fn apply_job_manager(client: &Client, cluster: &Cluster, plan: &Plan) -> Result<(), ApplyError> {
    match (plan.job_manager, &plan.operation_id) {
        (JobManagerAction::Apply, Some(operation_id)) => {
            let deployment = build::job_manager(
                cluster,
                &plan.job_manager_hash,
                operation_id,
                plan.state.restore.as_ref(),
            );
            apply_one(client, &cluster.namespace, &deployment).await.map(drop)
        }
        (JobManagerAction::Scale, _) => scale_job_manager(client, cluster).await,
        (JobManagerAction::Delete, _) => delete_deployment(client, &cluster.namespace, &cluster.name).await,
        (JobManagerAction::Apply | JobManagerAction::Keep, _) => Ok(()),
    }
}

/// Changes nothing but the number of pods: those that run go on.
async fn scale_job_manager(client: &Client, cluster: &Cluster) -> Result<(), ApplyError> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &cluster.namespace);
    let name = names::job_manager(&cluster.name);
    let parameters = PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = serde_json::json!({"spec": {"replicas": cluster.job_manager_replicas}});
    match api.patch(&name, &parameters, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(source) => Err(ApplyError::Apply {
            kind: "Deployment".into(),
            name,
            source,
        }),
    }
}

async fn create_task_managers(client: &Client, cluster: &Cluster, plan: &Plan) -> Result<(), ApplyError> {
    let mut pods = Vec::with_capacity(plan.create.len());
    for ordinal in &plan.create {
        pods.push(build::task_manager(cluster, &plan.task_manager_hash, *ordinal));
    }
    stream::iter(pods)
        .map(|pod| create_pod(client, pod))
        .buffered(CREATIONS_AT_ONCE)
        .try_collect()
        .await
}

async fn ensure_some<K>(
    client: &Client,
    applied: &Applied,
    namespace: &str,
    object: Option<&K>,
) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    match object {
        Some(object) => ensure(client, applied, namespace, object).await,
        None => Ok(()),
    }
}

async fn ensure<K>(client: &Client, applied: &Applied, namespace: &str, object: &K) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let key = Applied::key(object);
    let hash = hash(&serde_json::to_value(object).unwrap_or_default());
    if applied.is_current(&key, &hash) {
        return Ok(());
    }
    let answer = apply_one(client, namespace, object).await?;
    applied.record(key, hash, answer.resource_version());
    Ok(())
}

async fn apply_one<K>(client: &Client, namespace: &str, object: &K) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let name = object.name_any();
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch(&name, &parameters, &Patch::Apply(object))
        .await
        .map_err(|source| ApplyError::Apply {
            kind: K::kind(&()).into_owned(),
            name,
            source,
        })
}

async fn create_pod(client: &Client, pod: Pod) -> Result<(), ApplyError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let parameters = PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    };
    match api.create(&parameters, &pod).await {
        Ok(_) => Ok(()),
        // Made by an earlier pass whose answer was lost, or by the leader before us.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(ApplyError::CreatePod {
            name: pod.name_any(),
            source,
        }),
    }
}

/// Deletes pods by name and uid; one that is already gone, or whose name another has by now, is fine.
pub(crate) async fn delete_pods(
    client: &Client,
    namespace: &str,
    deletions: &[PodDeletion],
) -> Result<(), ApplyError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for deletion in deletions {
        let uid = Some(deletion.uid.clone()).filter(|uid| !uid.is_empty());
        let mut parameters = DeleteParams::default().preconditions(Preconditions {
            uid,
            resource_version: None,
        });
        if deletion.force {
            parameters = parameters.grace_period(0);
        }
        match api.delete(&deletion.name, &parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(source) => {
                return Err(ApplyError::DeletePod {
                    name: deletion.name.clone(),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Deletes the JobManager's Deployment; its pods follow in the background.
pub(crate) async fn delete_deployment(
    client: &Client,
    namespace: &str,
    cluster: &str,
) -> Result<(), ApplyError> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let name = names::job_manager(cluster);
    match api.delete(&name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(ApplyError::DeleteDeployment { name, source }),
    }
}
