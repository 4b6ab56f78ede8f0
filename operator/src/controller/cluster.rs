//! Reconciles FlinkApplications and FlinkSessions.
//!
//! ```text
//!   finalizer -> validate -> dereference -> observe -> plan -> (intent to status) -> apply -> (stop) -> status, events
//!   deleted:     dereference -> observe -> plan_cleanup -> delete -> surroundings -> finalizer off
//! ```
//! Invariants: the operation id of a new JobManager, and what it restores from, are in status before the JobManager is made;
//! the id of a stop with savepoint before it is asked for; what the job left before its JobManager goes.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use thalweg_crds::{ClusterStatus, LifecycleState};
use thalweg_proto::cluster::v1::TriggerSavepointRequest;
use thalweg_proto::control::v1::FailureClass;

use super::resource::{
    ClusterResource, add_finalizer, has_finalizer, keeps_state, owner_reference, read, remove_finalizer,
    write_status,
};
use super::{RESYNC, ReconcileError, record, resource_key};
use crate::apply::{apply, delete_deployment, delete_pods};
use crate::build::RPC_PORT;
use crate::cleanup::{Departing, delete_surroundings};
use crate::cluster::Cluster;
use crate::cluster_watch::ClusterKey;
use crate::context::Context;
use crate::dereference::dereference;
use crate::events::{Recovery, Visible, event, of_state, transitions};
use crate::job_client::NoAnswer;
use crate::observe::{Facts, observe};
use crate::plan::cleanup::plan_cleanup;
use crate::plan::state::Hold;
use crate::plan::{Plan, plan};
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
    if resource.meta().deletion_timestamp.is_none() && keeps_state(resource.job(), recovery) {
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
    let request = Request {
        kind: K::KIND,
        metadata: resource.meta(),
        owner: &owner,
        fields: resource.fields(),
        job: resource.job(),
        status: resource.cluster_status(),
        default_image: context.default_image.as_deref(),
    };
    let cluster = match validate(&request) {
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
    *recorded = write_intent(resource, context, &cluster, &plan, &before).await?;
    apply(&context.client, &context.applied, &cluster, &plan).await?;
    if let Some(hold) = plan.state.hold.take() {
        let address = facts.view.as_ref().map(|view| view.address.as_str());
        plan.state.hold = Some(trigger(context, address.unwrap_or_default(), hold).await?);
    }
    let after = cluster_status(&cluster, &plan, &facts, &before, context.now());
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
    context.publish(events, &about).await;
    Ok(Action::requeue(plan.recheck_after.unwrap_or(RESYNC).min(RESYNC)))
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
    match facts
        .current_job_manager()
        .map(|pod| (pod.uid.clone(), pod.ip.clone()))
    {
        Some((pod_uid, Some(ip))) => {
            // By address: the name of a pod that is new is often cached as unknown.
            let host = if ip.contains(':') { format!("[{ip}]") } else { ip };
            context
                .watches
                .follow(&key, &pod_uid, &format!("http://{host}:{RPC_PORT}"));
            facts.view = context.watches.view(&key);
        }
        _ => context.watches.stop(&key),
    }
    Ok(facts)
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
) -> Result<ClusterStatus, ReconcileError> {
    let Some(intended) = cluster_intent(cluster, plan, before) else {
        return Ok(before.clone());
    };
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

async fn clean_up<K: ClusterResource>(resource: &K, context: &Context) -> Result<Action, ReconcileError> {
    if !has_finalizer(resource) {
        return Ok(Action::await_change());
    }
    let namespace = resource.namespace().unwrap_or_default();
    let name = resource.name_any();
    let now = context.now();
    let before = resource.cluster_status().cloned().unwrap_or_default();
    if before.lifecycle_state != Some(LifecycleState::Deleting) {
        let after = cluster_deleting(&before, resource.meta().generation.unwrap_or_default(), now);
        write_status(&context.client, resource, &after).await?;
    }
    context.watches.stop(&ClusterKey {
        kind: K::KIND,
        namespace: namespace.clone(),
        name: name.clone(),
    });
    let found = dereference(&context.client, K::KIND, &namespace, &name).await?;
    let uid = resource.uid().unwrap_or_default();
    let facts = observe(&uid, found.deployment.as_ref(), &found.pods, None);
    let deleted_at = resource
        .meta()
        .deletion_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
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
