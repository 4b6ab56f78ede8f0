//! The controllers: watches, triggers and what is common to the kinds.
//!
//! ```text
//!   watch of the kind ----------+
//!   watch of its objects -------+--> Controller --> reconcile: dereference -> validate -> plan -> build -> apply -> status
//!   pushed status (triggers) ---+
//! ```

pub(crate) mod cluster;
mod departure;
mod requests;
pub(crate) mod resource;
pub(crate) mod session_job;
pub(crate) mod snapshot;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thalweg_crds::{
    FlinkApplication, FlinkSession, FlinkSessionJob, FlinkStateSnapshot, JobKind, LifecycleState,
};
use tokio::sync::{broadcast, watch};

use crate::apply::ApplyError;
use crate::cluster::ClusterKind;
use crate::cluster_watch::ClusterKey;
use crate::context::Context;
use crate::dereference::DereferenceError;
use crate::metrics::ResourceState;
use crate::names;
use resource::{ClusterResource, StatusPatchError};

/// A resource that nothing happens to is looked at this often; what we watch tells us sooner.
pub(crate) const RESYNC: Duration = Duration::from_secs(300);

/// A reconciliation that failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("{}", with_cause(.0))]
    Dereference(#[from] DereferenceError),
    #[error("{}", with_cause(.0))]
    Apply(#[from] ApplyError),
    #[error("{}", with_cause(.0))]
    Status(#[from] StatusPatchError),
    #[error("the finalizer can't be changed: {}", explain(.0))]
    Finalizer(#[source] kube::Error),
    #[error("FlinkSession {name} can't be read: {}", explain(.source))]
    Session {
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("the resource can't be read: {}", explain(.0))]
    Read(#[source] kube::Error),
    #[error("the labels can't be written: {}", explain(.0))]
    Labels(#[source] kube::Error),
    #[error(transparent)]
    NoAnswer(#[from] crate::job_client::NoAnswer),
}

impl ReconcileError {
    /// The step, as the metric's label.
    fn step(&self) -> &'static str {
        match self {
            Self::Dereference(_) | Self::Session { .. } | Self::Read(_) => "dereference",
            Self::Apply(_) => "apply",
            Self::Status(_) | Self::Labels(_) => "status",
            Self::Finalizer(_) => "finalizer",
            Self::NoAnswer(_) => "job-manager",
        }
    }

    /// Reason of the condition and the event.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Apply(ApplyError::CreatePod { .. }) => "FailedCreate",
            Self::Apply(_) => "ApplyFailed",
            Self::NoAnswer(_) => "JobManagerUnreachable",
            Self::Dereference(_)
            | Self::Session { .. }
            | Self::Read(_)
            | Self::Labels(_)
            | Self::Status(_)
            | Self::Finalizer(_) => "ApiServerError",
        }
    }

    /// Whether the object was changed under our hands: the next pass sees the change.
    fn is_conflict(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if let Some(kube::Error::Api(status)) = error.downcast_ref::<kube::Error>() {
                return status.is_conflict();
            }
            next = error.source();
        }
        false
    }
}

/// The API server's own words.
pub(crate) fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => match source.downcast_ref::<kube::Error>() {
            Some(kube_error) => format!("{error}: {}", explain(kube_error)),
            None => format!("{error}: {source}"),
        },
        None => error.to_string(),
    }
}

/// Runs all controllers until `stop` is true. No namespaces: the whole cluster.
pub(crate) async fn run(context: Arc<Context>, namespaces: &[String], stop: watch::Receiver<bool>) {
    let scopes: Vec<Option<&str>> = match namespaces {
        [] => vec![None],
        some => some.iter().map(|namespace| Some(namespace.as_str())).collect(),
    };
    let mut controllers: Vec<BoxFuture<'static, ()>> = Vec::new();
    for scope in scopes {
        controllers.push(cluster_controller::<FlinkApplication>(
            &context,
            scope,
            stop.clone(),
        ));
        controllers.push(cluster_controller::<FlinkSession>(&context, scope, stop.clone()));
        controllers.push(session_job_controller(&context, scope, stop.clone()));
        controllers.push(snapshot_controller(&context, scope, stop.clone()));
    }
    futures::future::join_all(controllers).await;
}

fn api<K>(context: &Context, scope: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(context.client.clone(), namespace),
        None => Api::all(context.client.clone()),
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone: the program ends.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn cluster_controller<K: ClusterResource>(
    context: &Arc<Context>,
    scope: Option<&str>,
    stop: watch::Receiver<bool>,
) -> BoxFuture<'static, ()> {
    let children = watcher::Config::default().labels(&names::kind_selector(K::KIND));
    let controller = Controller::new(api::<K>(context, scope), watcher::Config::default());
    let store = controller.store();
    count_resources(context, &store, K::KIND.as_str(), |resource: &K| {
        resource
            .cluster_status()
            .and_then(|status| status.lifecycle_state)
    });
    let triggers = context.watches.subscribe();
    let (services, config_maps) = (context.clone(), context.clone());
    let pushed = pushed_status(triggers, store, {
        let scope = scope.map(str::to_owned);
        move |key, _| {
            let mine = key.kind == K::KIND && scope.as_deref().is_none_or(|scope| scope == key.namespace);
            mine.then(|| ObjectRef::new(&key.name).within(&key.namespace))
                .into_iter()
                .collect()
        }
    });
    controller
        .watches(api::<Deployment>(context, scope), children.clone(), |object| {
            instance_of::<K>(&object)
        })
        .watches(api::<Pod>(context, scope), children.clone(), |object| {
            instance_of::<K>(&object)
        })
        .watches(api::<Service>(context, scope), children.clone(), move |object| {
            services
                .applied
                .changed(&object)
                .then(|| instance_of::<K>(&object))
                .flatten()
        })
        .watches(api::<ConfigMap>(context, scope), children, move |object| {
            config_maps
                .applied
                .changed(&object)
                .then(|| instance_of::<K>(&object))
                .flatten()
        })
        .reconcile_on(pushed)
        .graceful_shutdown_on(stopped(stop))
        .run(cluster::reconcile::<K>, retry::<K>, context.clone())
        .for_each(log_outcome)
        .boxed()
}

fn session_job_controller(
    context: &Arc<Context>,
    scope: Option<&str>,
    stop: watch::Receiver<bool>,
) -> BoxFuture<'static, ()> {
    let controller = Controller::new(api::<FlinkSessionJob>(context, scope), watcher::Config::default());
    let store = controller.store();
    count_resources(context, &store, "FlinkSessionJob", |job: &FlinkSessionJob| {
        job.status.as_ref().and_then(|status| status.lifecycle_state)
    });
    let jobs = store.clone();
    let pushed = pushed_status(context.watches.subscribe(), store, {
        let scope = scope.map(str::to_owned);
        move |key, store| {
            let in_scope = scope.as_deref().is_none_or(|scope| scope == key.namespace);
            if key.kind != ClusterKind::Session || !in_scope {
                return Vec::new();
            }
            jobs_of_session(store, &key.namespace, &key.name)
        }
    });
    controller
        .watches(
            api::<FlinkSession>(context, scope),
            watcher::Config::default(),
            move |session| {
                jobs_of_session(
                    &jobs,
                    &session.namespace().unwrap_or_default(),
                    &session.name_any(),
                )
            },
        )
        .reconcile_on(pushed)
        .graceful_shutdown_on(stopped(stop))
        .run(session_job::reconcile, retry::<FlinkSessionJob>, context.clone())
        .for_each(log_outcome)
        .boxed()
}

fn snapshot_controller(
    context: &Arc<Context>,
    scope: Option<&str>,
    stop: watch::Receiver<bool>,
) -> BoxFuture<'static, ()> {
    let controller = Controller::new(
        api::<FlinkStateSnapshot>(context, scope),
        watcher::Config::default(),
    );
    let store = controller.store();
    context.snapshots.add(store.clone());
    context.metrics.add_source({
        let store = store.clone();
        move || store.state().iter().map(|one| snapshot_state(one)).collect()
    });
    let pushed = pushed_status(context.watches.subscribe(), store, {
        let scope = scope.map(str::to_owned);
        move |key, store| {
            let in_scope = scope.as_deref().is_none_or(|scope| scope == key.namespace);
            if in_scope {
                snapshots_of_cluster(store, key)
            } else {
                Vec::new()
            }
        }
    });
    controller
        .reconcile_on(pushed)
        .graceful_shutdown_on(stopped(stop))
        .run(snapshot::reconcile, retry::<FlinkStateSnapshot>, context.clone())
        .for_each(log_outcome)
        .boxed()
}

fn snapshot_state(snapshot: &FlinkStateSnapshot) -> ResourceState {
    let state = snapshot.status.as_ref().and_then(|status| status.state);
    ResourceState {
        kind: snapshot::KIND,
        namespace: snapshot.namespace().unwrap_or_default(),
        lifecycle_state: state.unwrap_or_default().as_str(),
    }
}

/// Those that wait for something, of an application's job, or of any session job: which session is theirs is in another resource.
fn snapshots_of_cluster(
    store: &Store<FlinkStateSnapshot>,
    key: &ClusterKey,
) -> Vec<ObjectRef<FlinkStateSnapshot>> {
    let all = store.state();
    let concerned = all.iter().filter(|one| {
        let same_namespace = one.namespace().as_deref() == Some(key.namespace.as_str());
        let reference = one.spec.job_reference.as_ref();
        let of_cluster = reference.is_some_and(|job| match key.kind {
            ClusterKind::Application => job.kind == JobKind::FlinkApplication && job.name == key.name,
            ClusterKind::Session => job.kind == JobKind::FlinkSessionJob,
        });
        same_namespace && of_cluster && !snapshot::settled(one)
    });
    concerned.map(|one| ObjectRef::from_obj(one.as_ref())).collect()
}

fn jobs_of_session(
    store: &Store<FlinkSessionJob>,
    namespace: &str,
    session: &str,
) -> Vec<ObjectRef<FlinkSessionJob>> {
    let all = store.state();
    let of_session = all
        .iter()
        .filter(|job| job.spec.session_name == session && job.namespace().as_deref() == Some(namespace));
    of_session.map(|job| ObjectRef::from_obj(job.as_ref())).collect()
}

/// The resource that an object's labels name.
fn instance_of<K>(object: &impl ResourceExt) -> Option<ObjectRef<K>>
where
    K: Resource<DynamicType = ()>,
{
    let instance = object.labels().get(names::LABEL_INSTANCE)?;
    Some(ObjectRef::new(instance).within(&object.namespace()?))
}

/// Turns pushed status into reconciliations; after too many at once, all resources are reconciled.
fn pushed_status<K>(
    triggers: broadcast::Receiver<ClusterKey>,
    store: Store<K>,
    select: impl Fn(&ClusterKey, &Store<K>) -> Vec<ObjectRef<K>> + Send + 'static,
) -> BoxStream<'static, ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    tokio_stream::wrappers::BroadcastStream::new(triggers)
        .flat_map(move |trigger| {
            stream::iter(match trigger {
                Ok(key) => select(&key, &store),
                Err(_) => store
                    .state()
                    .iter()
                    .map(|resource| ObjectRef::from_obj(resource.as_ref()))
                    .collect(),
            })
        })
        .boxed()
}

fn count_resources<K>(
    context: &Context,
    store: &Store<K>,
    kind: &'static str,
    state: impl Fn(&K) -> Option<LifecycleState> + Send + Sync + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let store = store.clone();
    context.metrics.add_source(move || {
        let all = store.state();
        let one = all.iter().map(|resource| ResourceState {
            kind,
            namespace: resource.namespace().unwrap_or_default(),
            lifecycle_state: state(resource).map_or("", LifecycleState::as_str),
        });
        one.collect()
    });
}

/// Name of a resource in logs and in the count of failures.
pub(crate) fn resource_key<K: Resource<DynamicType = ()>>(resource: &K) -> String {
    format!(
        "{}/{}/{}",
        K::kind(&()),
        resource.namespace().unwrap_or_default(),
        resource.name_any()
    )
}

/// What follows an error: a try after a wait that grows; after a conflict soon, it has been counted nowhere.
#[allow(clippy::needless_pass_by_value)] // kube's signature
fn retry<K: Resource<DynamicType = ()>>(
    resource: Arc<K>,
    error: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    if error.is_conflict() {
        return Action::requeue(Duration::from_millis(100));
    }
    Action::requeue(context.attempts.failed(&resource_key(resource.as_ref())))
}

/// Counts and times a reconciliation.
pub(crate) fn record(
    context: &Context,
    kind: &str,
    key: &str,
    took: Duration,
    error: Option<&ReconcileError>,
) {
    context
        .metrics
        .reconciled(kind, took, error.map(ReconcileError::step));
    if error.is_none() {
        context.attempts.succeeded(key);
    }
}

#[allow(clippy::unused_async)] // for_each wants a future
async fn log_outcome<K>(
    outcome: Result<(ObjectRef<K>, Action), kube::runtime::controller::Error<ReconcileError, watcher::Error>>,
) where
    K: Resource + DeserializeOwned,
    K::DynamicType: Debug + Clone + Eq + std::hash::Hash,
{
    use kube::runtime::controller::Error;
    match outcome {
        Ok((object, _)) => tracing::debug!(%object, "reconciled"),
        // A trigger for what is gone by now.
        Err(Error::ObjectNotFound(object)) => tracing::debug!(%object, "is gone"),
        Err(Error::ReconcilerFailed(error, object)) if error.is_conflict() => {
            tracing::debug!(%object, "changed meanwhile; reconciled again");
        }
        Err(Error::ReconcilerFailed(error, object)) => {
            tracing::warn!(%object, %error, "reconciliation failed");
        }
        Err(Error::QueueError(error)) => tracing::warn!(%error, "a watch failed; it is opened again"),
        Err(error) => tracing::error!(%error, "controller failed"),
    }
}
