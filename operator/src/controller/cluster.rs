//! Reconciles FlinkApplications and FlinkSessions.
//!
//! ```text
//!   finalizer -> validate -> dereference -> observe -> plan -> (intent to status) -> apply -> (stop) -> status, events
//!                (FlinkStateSnapshots: created, the surplus deleted)
//!   deleted:     (stop with savepoint) -> dereference -> observe -> plan_cleanup -> delete -> surroundings -> finalizer off
//! ```
//! Invariants: the operation id of a new JobManager, and what it restores from, are in status before the JobManager is made;
//! the id of a stop with savepoint before it is asked for; what the job left before its JobManager goes.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use thalweg_crds::{ClusterStatus, JobKind, LifecycleState, RequestedSnapshots};
use thalweg_proto::cluster::v1::{CancelJobRequest, RetireResponse, TriggerSavepointRequest};
use thalweg_proto::control::v1::FailureClass;

use super::departure::{Departure, Leaving, depart, is_active};
use super::requests::{in_status, keep_snapshots, running_since, stopped_with};
use super::resource::{
    ClusterResource, add_finalizer, has_finalizer, keeps_state, owner_reference, read, remove_finalizer,
    write_status,
};
use super::{RESYNC, ReconcileError, record, resource_key};
use crate::apply::{apply, delete_deployment, delete_pods};
use crate::build::SnapshotOf;
use crate::cleanup::{Departing, delete_surroundings};
use crate::cluster::Cluster;
use crate::cluster_watch::ClusterKey;
use crate::context::Context;
use crate::dereference::dereference;
use crate::events::{LEADER_CHANGED, Recovery, Visible, event, of_state, transitions};
use crate::job_client::NoAnswer;
use crate::observe::{Facts, observe};
use crate::plan::cleanup::{ENDING_RECHECK, Ending, plan_cleanup, plan_ending};
use crate::plan::deletion::Deleted;
use crate::plan::snapshots::{Requests, request};
use crate::plan::state::{Hold, job_manager};
use crate::plan::{Goal, JobManagerAction, Plan, job_of, plan};
use crate::policy::has_operator_keys;
use crate::status::savepoints::savepoint_info;
use crate::status::{Problem, cluster_deleting, cluster_failure, cluster_intent, cluster_status};
use crate::validate::{Request, validate};

/// Another resource has the names that this one needs; it may go.
const NAME_TAKEN_RECHECK: Duration = Duration::from_secs(30);

/// One pass.
pub(crate) async fn reconcile<K: ClusterResource>(
    resource: Arc<K>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let outcome = pass(resource.as_ref(), &context).await;
    let error = outcome.as_ref().err();
    record(
        &context,
        K::KIND.as_str(),
        &resource_key(resource.as_ref()),
        started.elapsed(),
        error,
    );
    outcome
}

async fn pass<K: ClusterResource>(resource: &K, context: &Context) -> Result<Action, ReconcileError> {
    let recovery = resource.cluster_status().map(|status| &status.recovery);
    let configuration = resource.fields().flink_configuration.as_ref();
    let deleted = resource.meta().deletion_timestamp.is_some();
    let fresh = if deleted {
        asks_for_departure(resource)
    } else {
        keeps_state(resource.job(), configuration, recovery)
    };
    if fresh {
        return match read(&context.client, resource).await? {
            Some(fresh) => pass_over(&fresh, context).await,
            None => Ok(Action::await_change()),
        };
    }
    pass_over(resource, context).await
}

async fn pass_over<K: ClusterResource>(resource: &K, context: &Context) -> Result<Action, ReconcileError> {
    if resource.meta().deletion_timestamp.is_some() {
        return clean_up(resource, context).await;
    }
    if !has_finalizer(resource) {
        add_finalizer(&context.client, resource).await?;
    }
    let mut recorded = resource.cluster_status().cloned().unwrap_or_default();
    let outcome = converge(resource, context, &mut recorded).await;
    if let Err(error) = &outcome
        && !error.is_conflict()
        && !matches!(error, ReconcileError::Status(_))
    {
        report(
            resource,
            context,
            &recorded,
            &Problem::passing(error.reason(), error.to_string()),
        )
        .await?;
    }
    outcome
}

/// `recorded` is the status as it was written last: what fails later must not take it back.
async fn converge<K: ClusterResource>(
    resource: &K,
    context: &Context,
    recorded: &mut ClusterStatus,
) -> Result<Action, ReconcileError> {
    let before = recorded.clone();
    let owner = owner_reference(resource);
    let cluster = match validate(&request_of(resource, context, &owner)) {
        Ok(cluster) => cluster,
        Err(invalid) => {
            report(
                resource,
                context,
                recorded,
                &Problem::fatal("ValidationError", invalid.to_string()),
            )
            .await?;
            return Ok(Action::requeue(RESYNC));
        }
    };
    let facts = look(resource, context).await?;
    if let Some(other) = facts
        .deployment
        .as_ref()
        .and_then(|found| found.foreign_owner.as_deref())
    {
        let message = format!(
            "{other} in this namespace has the same name, and with it the names of Deployment and Services; \
             rename one of the two"
        );
        report(
            resource,
            context,
            recorded,
            &Problem::passing("NameTaken", message),
        )
        .await?;
        return Ok(Action::requeue(NAME_TAKEN_RECHECK));
    }
    let mut plan = plan(&cluster, &before, &facts, context.now());
    let (requested, due) = requested(&cluster, &plan, &facts, &before, context);
    *recorded = write_intent(resource, context, &cluster, &plan, &before, requested.as_ref()).await?;
    apply(&context.client, &context.applied, &cluster, &plan).await?;
    if let Some(hold) = plan.state.hold.take() {
        let address = facts.view.as_ref().map(|view| view.address.as_str());
        plan.state.hold = Some(trigger(context, address.unwrap_or_default(), hold).await?);
    }
    let mut after = cluster_status(&cluster, &plan, &facts, &before, context.now());
    after.snapshots = requested;
    tell_savepoint(&mut after, &before, &cluster, &facts, context);
    if after != *recorded {
        write_status(&context.client, resource, &after).await?;
    }
    let about = resource.object_ref(&());
    let mut events = transitions(Visible::from(&before), Visible::from(&after));
    events.extend(of_state(
        Recovery::from(&before),
        Recovery::from(&after),
        plan.state.note.as_deref(),
    ));
    if events.iter().any(|event| event.reason == LEADER_CHANGED) {
        context.metrics.leader_changed(K::KIND.as_str());
    }
    context.publish(events, &about).await;
    *recorded = after;
    if let Some(job) = &cluster.job {
        keep_snapshots(context, resource, &snapshots_of(&cluster), job, recorded).await?;
    }
    let next = [plan.recheck_after, due, Some(RESYNC)]
        .into_iter()
        .flatten()
        .min();
    Ok(Action::requeue(next.unwrap_or(RESYNC)))
}

/// The snapshots that are asked for, as they are recorded, and when time alone asks for another.
fn requested(
    cluster: &Cluster,
    plan: &Plan,
    facts: &Facts,
    before: &ClusterStatus,
    context: &Context,
) -> (Option<RequestedSnapshots>, Option<Duration>) {
    let Some(job) = &cluster.job else {
        return (None, None);
    };
    let snapshot = facts.view.as_ref().and_then(|view| view.snapshot.as_deref());
    let settled = plan.job_manager == JobManagerAction::Keep && plan.goal == Goal::Run;
    let pushed = job_of(snapshot, plan.operation_id.as_deref()).filter(|_| settled);
    let wanted = Requests {
        name: &cluster.name,
        job,
        first: before.observed_generation.is_none(),
        running_since: running_since(pushed),
        stopped_with: stopped_with(&before.recovery, &plan.state),
        now: context.now(),
    };
    let (record, due) = request(&wanted, &before.snapshots.clone().unwrap_or_default());
    (in_status(record), due)
}

fn snapshots_of(cluster: &Cluster) -> SnapshotOf<'_> {
    SnapshotOf {
        kind: JobKind::FlinkApplication,
        namespace: &cluster.namespace,
        name: &cluster.name,
    }
}

/// Adds the newest savepoint to the job's status.
fn tell_savepoint(
    after: &mut ClusterStatus,
    before: &ClusterStatus,
    cluster: &Cluster,
    facts: &Facts,
    context: &Context,
) {
    let snapshot = facts.view.as_ref().and_then(|view| view.snapshot.as_deref());
    let pushed = job_of(snapshot, before.operation_id.as_deref());
    let Some(pushed) = pushed.filter(|job| !job.savepoints.is_empty()) else {
        return;
    };
    let recorded = before
        .job_status
        .as_ref()
        .and_then(|job| job.savepoint_info.as_ref());
    let known = context.snapshots.of_job(&snapshots_of(cluster));
    let info = savepoint_info(Some(pushed), recorded, &known);
    if let Some(job) = after.job_status.as_mut().filter(|_| info.is_some()) {
        job.savepoint_info = info;
    }
}

fn request_of<'a, K: ClusterResource>(
    resource: &'a K,
    context: &'a Context,
    owner: &'a OwnerReference,
) -> Request<'a> {
    Request {
        kind: K::KIND,
        metadata: resource.meta(),
        owner,
        fields: resource.fields(),
        job: resource.job(),
        status: resource.cluster_status(),
        default_image: context.default_image.as_deref(),
    }
}

/// Reads the cluster's objects and follows its JobManager's stream.
async fn look<K: ClusterResource>(resource: &K, context: &Context) -> Result<Facts, ReconcileError> {
    let namespace = resource.namespace().unwrap_or_default();
    let name = resource.name_any();
    let found = dereference(&context.client, K::KIND, &namespace, &name).await?;
    let uid = resource.uid().unwrap_or_default();
    let mut facts = observe(&uid, found.deployment.as_ref(), &found.pods, None);
    let key = ClusterKey {
        kind: K::KIND,
        namespace,
        name,
    };
    follow(context, &key, &mut facts);
    Ok(facts)
}

/// Follows the stream of whichever JobManager speaks for the cluster; what it has said becomes a fact.
fn follow(context: &Context, key: &ClusterKey, facts: &mut Facts) {
    match facts.job_managers_to_follow() {
        Some(job_managers) => {
            context.watches.follow(key, job_managers);
            facts.view = context.watches.view(key);
        }
        None => context.watches.stop(key),
    }
}

/// Asks a job to stop with a savepoint, if it is to be; what is known of it then. A refusal that trying again can't help is
/// the savepoint's failure.
pub(super) async fn trigger(context: &Context, address: &str, hold: Hold) -> Result<Hold, NoAnswer> {
    let Hold::Trigger { operation_id, job_id } = hold else {
        return Ok(hold);
    };
    tracing::info!(job_id, operation_id, "stopping the job with a savepoint");
    let request = TriggerSavepointRequest {
        job_id,
        operation_id: operation_id.clone(),
        target_directory: String::new(),
        stop: true,
        drain: false,
    };
    match context.jobs.trigger_savepoint(address, request).await?.failure {
        None => Ok(Hold::UnderWay { operation_id }),
        Some(failure) if failure.class() == FailureClass::Retryable => Err(NoAnswer(failure.message)),
        Some(failure) => Ok(Hold::Failed {
            operation_id,
            reason: failure.message,
        }),
    }
}

/// Writes what has to be in status before the plan is acted on; the status as it is then.
async fn write_intent<K: ClusterResource>(
    resource: &K,
    context: &Context,
    cluster: &Cluster,
    plan: &Plan,
    before: &ClusterStatus,
    requested: Option<&RequestedSnapshots>,
) -> Result<ClusterStatus, ReconcileError> {
    let Some(mut intended) = cluster_intent(cluster, plan, before) else {
        return Ok(before.clone());
    };
    intended.snapshots = requested.cloned();
    write_status(&context.client, resource, &intended).await?;
    Ok(intended)
}

/// Writes a problem to status, and as an event if it is a new one.
async fn report<K: ClusterResource>(
    resource: &K,
    context: &Context,
    before: &ClusterStatus,
    problem: &Problem,
) -> Result<(), ReconcileError> {
    let generation = resource.meta().generation.unwrap_or_default();
    let after = cluster_failure(before, generation, problem, context.now());
    if after != *before {
        write_status(&context.client, resource, &after).await?;
        let about = resource.object_ref(&());
        context
            .publish(transitions(Visible::from(before), Visible::from(&after)), &about)
            .await;
    }
    Ok(())
}

/// Whether its configuration may ask for a savepoint before it goes.
fn asks_for_departure<K: ClusterResource>(resource: &K) -> bool {
    resource.job().is_some() && has_operator_keys(resource.fields().flink_configuration.as_ref())
}

/// Stops the job with a savepoint before anything is deleted, if that is asked for.
async fn stop_first<K: ClusterResource>(
    resource: &K,
    context: &Context,
    status: &ClusterStatus,
    since: Duration,
) -> Result<Departure, ReconcileError> {
    if !asks_for_departure(resource) {
        return Ok(Departure::Go);
    }
    let owner = owner_reference(resource);
    // What is invalid asks for nothing.
    let Ok(cluster) = validate(&request_of(resource, context, &owner)) else {
        return Ok(Departure::Go);
    };
    let Some(job) = &cluster.job else {
        return Ok(Departure::Go);
    };
    let facts = look(resource, context).await?;
    let snapshot = facts.view.as_ref().and_then(|view| view.snapshot.as_deref());
    let recorded = status.job_status.as_ref();
    let leaving = Leaving {
        of: snapshots_of(&cluster),
        job,
        facts: Deleted {
            uid: &cluster.uid,
            policy: &job.policy,
            recovery: &status.recovery,
            active: is_active(status.operation_id.as_deref(), &status.recovery, recorded),
            upgrade_path: recorded.and_then(|job| job.upgrade_savepoint_path.as_deref()),
            pushed: job_of(snapshot, status.operation_id.as_deref()),
            job_manager: job_manager(&facts, snapshot),
            since,
        },
        address: facts.view.as_ref().map_or("", |view| view.address.as_str()),
    };
    depart(context, resource, status, &leaving).await
}

/// Cancels the jobs of JobManagers that stand by for each other, and for how long to wait for their end: what a job has in
/// `high-availability.storageDir` goes with it.
async fn end_jobs(
    context: &Context,
    key: &ClusterKey,
    facts: &mut Facts,
    since: Duration,
) -> Option<Duration> {
    if facts
        .deployment
        .as_ref()
        .is_some_and(|found| found.high_availability)
    {
        follow(context, key, facts);
    }
    let ending = plan_ending(facts, since);
    let address = facts.view.as_ref().map_or("", |view| view.address.as_str());
    let (cancel, recheck_after) = match ending {
        Ending::Go => return None,
        Ending::Retire => return retire(context, address).await,
        Ending::Wait {
            cancel,
            recheck_after,
        } => (cancel, recheck_after),
    };
    for job_id in cancel {
        let request = CancelJobRequest {
            job_id: job_id.clone(),
            ..CancelJobRequest::default()
        };
        if let Err(error) = context.jobs.cancel(address, request).await {
            tracing::warn!(%error, job_id, "a job of a deleted resource can't be cancelled yet");
        }
    }
    Some(recheck_after)
}

/// What the cluster left in storage goes, by the hand of its leader: the operator has no right to it. When to try again, if it didn't.
async fn retire(context: &Context, address: &str) -> Option<Duration> {
    let reason = match context.jobs.retire(address).await {
        Ok(RetireResponse { failure: None }) => return None,
        Ok(RetireResponse {
            failure: Some(failure),
        }) => failure.message,
        Err(error) => error.to_string(),
    };
    tracing::warn!(
        reason,
        "what a deleted cluster left in high-availability.storageDir can't be deleted yet"
    );
    Some(ENDING_RECHECK)
}

async fn clean_up<K: ClusterResource>(resource: &K, context: &Context) -> Result<Action, ReconcileError> {
    if !has_finalizer(resource) {
        return Ok(Action::await_change());
    }
    let namespace = resource.namespace().unwrap_or_default();
    let name = resource.name_any();
    let now = context.now();
    let mut status = resource.cluster_status().cloned().unwrap_or_default();
    if status.lifecycle_state != Some(LifecycleState::Deleting) {
        status = cluster_deleting(&status, resource.meta().generation.unwrap_or_default(), now);
        write_status(&context.client, resource, &status).await?;
    }
    let deleted_at = resource
        .meta()
        .deletion_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    let since = Duration::try_from(now.duration_since(deleted_at)).unwrap_or_default();
    if let Departure::Wait(wait) = stop_first(resource, context, &status, since).await? {
        return Ok(Action::requeue(wait));
    }
    let found = dereference(&context.client, K::KIND, &namespace, &name).await?;
    let uid = resource.uid().unwrap_or_default();
    let mut facts = observe(&uid, found.deployment.as_ref(), &found.pods, None);
    let key = ClusterKey {
        kind: K::KIND,
        namespace: namespace.clone(),
        name: name.clone(),
    };
    if let Some(wait) = end_jobs(context, &key, &mut facts, since).await {
        return Ok(Action::requeue(wait));
    }
    context.watches.stop(&key);
    let plan = plan_cleanup(&facts, deleted_at, now);
    if plan.delete_deployment {
        delete_deployment(&context.client, &namespace, &name).await?;
    }
    delete_pods(&context.client, &namespace, &plan.delete).await?;
    if !plan.done {
        return Ok(Action::requeue(plan.recheck_after));
    }
    let departing = Departing {
        namespace: &namespace,
        name: &name,
        uid: &uid,
    };
    delete_surroundings(&context.client, departing).await?;
    remove_finalizer(&context.client, resource).await?;
    context.applied.forget(&namespace, &name);
    let note = "all pods are gone";
    context
        .publish(
            vec![event(EventType::Normal, "Cleanup", "Delete", note)],
            &resource.object_ref(&()),
        )
        .await;
    Ok(Action::await_change())
}
