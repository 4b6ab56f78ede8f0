//! Reconciles FlinkSessionJobs: submits, watches, cancels.
//!
//! ```text
//!   finalizer -> validate -> session -> plan -> (intent to status) -> SubmitJob | CancelJob -> status, events
//!   deleted:     session reachable? CancelJob, wait for the end -> finalizer off
//! ```
//! Invariants: a submission's operation id, and what it restores from, are in status before the job is submitted, and the same
//! id is one job; likewise the id of a stop with savepoint.

mod snapshots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use thalweg_crds::{
    FlinkSession, FlinkSessionJob, JobState, JobStatus, LifecycleState, SessionJobStatus, UpgradeMode,
};
use thalweg_proto::cluster::v1::submit_job_response::Result as Submitted;
use thalweg_proto::cluster::v1::{CancelJobRequest, PackageReference, RestoreSettings, SubmitJobRequest};
use thalweg_proto::control::v1::{Failure, FailureClass};

use super::cluster::trigger;
use super::departure::Departure;
use super::requests::keep_snapshots;
use super::resource::{add_finalizer, has_finalizer, keeps_state, read, remove_finalizer, write_status};
use super::{RESYNC, ReconcileError, record, resource_key};
use crate::build::RETENTION_KEY;
use crate::cluster::{ClusterKind, Job, hash};
use crate::cluster_watch::{ClusterKey, View};
use crate::context::Context;
use crate::events::{Recovery, Visible, event, of_state, transitions};
use crate::job_client::NoAnswer;
use crate::plan::job_of;
use crate::plan::session_job::{JobStep, Wanted, plan_session_job};
use crate::plan::state::{RestoreSource, StatePlan, recorded_hold, recorded_restore, recorded_upgrade};
use crate::policy::has_operator_keys;
use crate::status::Problem;
use crate::status::session_job::{Known, session_job_deleting, session_job_status};
use crate::validate::validate_session_job;
use snapshots::{ask_for_snapshots, newest_savepoint, snapshots_of, stop_first};

const KIND: &str = "FlinkSessionJob";
/// A deleted job whose session can't be reached is given up after this.
const UNREACHABLE_MAX: Duration = Duration::from_secs(15);
/// One whose cancelling doesn't end, after this.
const CANCEL_MAX: Duration = Duration::from_secs(60);
const CANCEL_RECHECK: Duration = Duration::from_secs(2);
const SESSION_RECHECK: Duration = Duration::from_secs(30);

/// One pass.
pub(crate) async fn reconcile(
    job: Arc<FlinkSessionJob>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let outcome = pass(job.as_ref(), &context).await;
    record(
        &context,
        KIND,
        &resource_key(job.as_ref()),
        started.elapsed(),
        outcome.as_ref().err(),
    );
    outcome
}

async fn pass(job: &FlinkSessionJob, context: &Context) -> Result<Action, ReconcileError> {
    let recovery = job.status.as_ref().map(|status| &status.recovery);
    let configuration = job.spec.flink_configuration.as_ref();
    let fresh = if job.metadata.deletion_timestamp.is_some() {
        has_operator_keys(configuration)
    } else {
        keeps_state(Some(&job.spec.job), configuration, recovery)
    };
    if fresh {
        return match read(&context.client, job).await? {
            Some(fresh) => pass_over(&fresh, context).await,
            None => Ok(Action::await_change()),
        };
    }
    pass_over(job, context).await
}

async fn pass_over(job: &FlinkSessionJob, context: &Context) -> Result<Action, ReconcileError> {
    if job.metadata.deletion_timestamp.is_some() {
        return clean_up(job, context).await;
    }
    if !has_finalizer(job) {
        add_finalizer(&context.client, job).await?;
    }
    let before = job.status.clone().unwrap_or_default();
    let (spec, configuration) =
        match validate_session_job(&job.spec.job, job.spec.flink_configuration.as_ref()) {
            Ok(valid) => valid,
            Err(invalid) => {
                let problem = Problem::fatal("ValidationError", invalid.to_string());
                finish(
                    job,
                    context,
                    &before,
                    &Known {
                        problem: Some(problem),
                        ..recorded(&before)
                    },
                )
                .await?;
                return Ok(Action::requeue(RESYNC));
            }
        };
    let hash = job_hash(job, &spec, &configuration);
    let session = find_session(job, context).await?;
    let view = session
        .as_ref()
        .and_then(|_| context.watches.view(&session_key(job)));
    let wanted = Wanted {
        uid: &job.uid().unwrap_or_default(),
        generation: job.metadata.generation.unwrap_or_default(),
        job: &spec,
        hash: &hash,
    };
    let snapshot = view.as_ref().and_then(|view| view.snapshot.as_deref());
    let step = plan_session_job(&wanted, &before, snapshot);
    let pushed = job_of(snapshot, before.operation_id.as_deref());
    let mut known = Known {
        pushed,
        suspended: spec.suspended,
        savepoint_info: newest_savepoint(job, context, pushed, &before),
        ..recorded(&before)
    };
    let due = ask_for_snapshots(job, context, &spec, &before, &step, &mut known);
    match step {
        JobStep::Nothing => known.state.hold = None,
        JobStep::Wait => known.problem = Some(waiting_for_session(job, session.is_some(), view.as_ref())),
        JobStep::Rest { state } => {
            known = Known {
                state,
                pushed: None,
                job: JobStatus {
                    state: Some(JobState::Suspended),
                    ..before.job_status.clone().unwrap_or_default()
                },
                operation_id: None,
                job_hash: None,
                ..known
            };
        }
        JobStep::Cancel { job_id } => {
            let address = view
                .as_ref()
                .map(|view| view.address.as_str())
                .unwrap_or_default();
            known.state.hold = None;
            let outcome = cancel(context, address, &job_id, before.operation_id.as_deref()).await;
            known.upgrading = !spec.suspended;
            if let Err(error) = outcome {
                return fail(job, context, &before, known, error).await;
            }
        }
        JobStep::Hold(hold) => {
            let address = view
                .as_ref()
                .map(|view| view.address.as_str())
                .unwrap_or_default();
            known.state.hold = Some(hold.clone());
            write_intent(job, context, &before, &known).await?;
            match trigger(context, address, hold).await {
                Ok(hold) => {
                    known.upgrading = hold.failure().is_none();
                    known.state.hold = Some(hold);
                }
                Err(error) => return fail(job, context, &before, known, error).await,
            }
        }
        JobStep::Submit { operation_id, state } => {
            let address = view
                .as_ref()
                .map(|view| view.address.as_str())
                .unwrap_or_default();
            known = Known {
                pushed: None,
                operation_id: Some(operation_id.clone()),
                job_hash: Some(hash.clone()),
                state,
                ..known
            };
            write_intent(job, context, &before, &known).await?;
            let restore = known.state.restore.as_ref();
            match submit(
                job,
                context,
                address,
                &operation_id,
                &spec,
                restore,
                configuration,
            )
            .await
            {
                Ok(answer) => take_answer(answer, &mut known),
                Err(error) => return fail(job, context, &before, known, error).await,
            }
        }
    }
    let mut after = finish(job, context, &before, &known).await?;
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let of = snapshots_of(&namespace, &name);
    keep_snapshots(context, job, &of, &spec, &mut after).await?;
    let retried = known.problem.as_ref().is_some_and(|problem| !problem.fatal);
    let recheck = if retried { SESSION_RECHECK } else { RESYNC };
    Ok(Action::requeue(due.unwrap_or(recheck).min(recheck)))
}

/// What status says already.
fn recorded(before: &SessionJobStatus) -> Known<'static> {
    Known {
        job: before.job_status.clone().unwrap_or(JobStatus {
            state: Some(JobState::Reconciling),
            ..JobStatus::default()
        }),
        operation_id: before.operation_id.clone(),
        job_hash: before.job_hash.clone(),
        state: StatePlan {
            restore: recorded_restore(&before.recovery),
            upgrade: recorded_upgrade(&before.recovery, before.job_status.as_ref()),
            hold: recorded_hold(&before.recovery),
            note: None,
            redeploy_nonce: None,
        },
        ..Known::default()
    }
}

fn session_key(job: &FlinkSessionJob) -> ClusterKey {
    ClusterKey {
        kind: ClusterKind::Session,
        namespace: job.namespace().unwrap_or_default(),
        name: job.spec.session_name.clone(),
    }
}

async fn find_session(
    job: &FlinkSessionJob,
    context: &Context,
) -> Result<Option<FlinkSession>, ReconcileError> {
    let sessions: Api<FlinkSession> =
        Api::namespaced(context.client.clone(), &job.namespace().unwrap_or_default());
    let name = &job.spec.session_name;
    let found = sessions.get_opt(name).await;
    found.map_err(|source| ReconcileError::Session {
        name: name.clone(),
        source,
    })
}

fn waiting_for_session(job: &FlinkSessionJob, exists: bool, view: Option<&View>) -> Problem {
    let name = &job.spec.session_name;
    if !exists {
        return Problem::passing(
            "SessionNotFound",
            format!(
                "there is no FlinkSession {name} in namespace {}; create it",
                job.namespace().unwrap_or_default()
            ),
        );
    }
    let cause = view
        .and_then(|view| view.error.as_deref())
        .map(|error| format!(": {error}"))
        .unwrap_or_default();
    Problem::passing(
        "SessionNotReady",
        format!("the JobManager of FlinkSession {name} does not answer yet{cause}"),
    )
}

/// Everything that makes another job of it.
fn job_hash(job: &FlinkSessionJob, spec: &Job, configuration: &BTreeMap<String, String>) -> String {
    hash(&json!({"job": spec, "configuration": configuration, "restartNonce": job.spec.restart_nonce}))
}

async fn submit(
    job: &FlinkSessionJob,
    context: &Context,
    address: &str,
    operation_id: &str,
    spec: &Job,
    restore: Option<&RestoreSource>,
    mut configuration: BTreeMap<String, String>,
) -> Result<Submitted, NoAnswer> {
    if spec.upgrade_mode != UpgradeMode::Stateless {
        let retained = || "RETAIN_ON_CANCELLATION".to_owned();
        configuration.entry(RETENTION_KEY.into()).or_insert_with(retained);
    }
    tracing::info!(
        namespace = job.namespace(),
        name = job.name_any(),
        operation_id,
        "submitting the job"
    );
    let request = SubmitJobRequest {
        operation_id: operation_id.to_owned(),
        job_name: String::new(),
        package: Some(PackageReference {
            uri: spec.package_uri.clone(),
            sha256: spec.package_sha256.clone().unwrap_or_default(),
            sql: spec.sql.clone().unwrap_or_default(),
        }),
        arguments: spec.args.clone(),
        parallelism: spec.parallelism.unwrap_or(0),
        configuration: configuration.into_iter().collect(),
        restore: restore.map(|source| RestoreSettings {
            path: source.path.clone(),
            allow_non_restored_state: spec.allow_non_restored_state,
            claim_mode: source.claim_mode.as_str().to_owned(),
        }),
    };
    let answer = context.jobs.submit(address, request).await?;
    answer
        .result
        .ok_or_else(|| NoAnswer("its answer to a submission says neither job nor failure".into()))
}

/// A refusal that trying again can't help is the job's end; another one is tried again.
fn take_answer(answer: Submitted, known: &mut Known<'_>) {
    match answer {
        Submitted::JobId(job_id) => {
            known.job = JobStatus {
                job_id: Some(job_id),
                state: Some(JobState::Initializing),
                ..JobStatus::default()
            };
        }
        Submitted::Failure(failure) if is_final(&failure) => {
            known.job = JobStatus {
                state: Some(JobState::Failed),
                last_failure: Some(failure.message),
                ..JobStatus::default()
            };
        }
        Submitted::Failure(failure) => {
            known.problem = Some(Problem::passing("SubmitFailed", failure.message));
        }
    }
}

fn is_final(failure: &Failure) -> bool {
    failure.class() != FailureClass::Retryable
}

async fn cancel(
    context: &Context,
    address: &str,
    job_id: &str,
    operation_id: Option<&str>,
) -> Result<String, NoAnswer> {
    tracing::info!(job_id, "cancelling the job");
    let operation_id = format!("{}-cancel", operation_id.unwrap_or_default());
    let request = CancelJobRequest {
        job_id: job_id.to_owned(),
        operation_id,
    };
    context
        .jobs
        .cancel(address, request)
        .await
        .map(|answer| answer.state)
}

/// Records a submission's operation id before it is made.
async fn write_intent(
    job: &FlinkSessionJob,
    context: &Context,
    before: &SessionJobStatus,
    known: &Known<'_>,
) -> Result<(), ReconcileError> {
    let recovery = known.state.recovery(&before.recovery, false);
    let same = before.operation_id == known.operation_id && before.job_hash == known.job_hash;
    let stop = recovery.savepoint_operation_id.as_ref();
    let stop_is_new = stop.is_some() && before.recovery.savepoint_operation_id.as_ref() != stop;
    if same && !stop_is_new && before.recovery.restore_path == recovery.restore_path {
        return Ok(());
    }
    let intended = SessionJobStatus {
        operation_id: known.operation_id.clone(),
        job_hash: known.job_hash.clone(),
        recovery,
        snapshots: known.snapshots.clone().or_else(|| before.snapshots.clone()),
        job_status: before.job_status.clone().filter(|_| same),
        ..before.clone()
    };
    Ok(write_status(&context.client, job, &intended).await?)
}

/// Reports that the JobManager gave no answer, and tries again.
async fn fail(
    job: &FlinkSessionJob,
    context: &Context,
    before: &SessionJobStatus,
    mut known: Known<'_>,
    error: NoAnswer,
) -> Result<Action, ReconcileError> {
    known.problem = Some(Problem::passing("JobManagerUnreachable", error.to_string()));
    finish(job, context, before, &known).await?;
    Err(error.into())
}

async fn finish(
    job: &FlinkSessionJob,
    context: &Context,
    before: &SessionJobStatus,
    known: &Known<'_>,
) -> Result<SessionJobStatus, ReconcileError> {
    let generation = job.metadata.generation.unwrap_or_default();
    let after = session_job_status(known, before, generation, context.now());
    if after != *before {
        write_status(&context.client, job, &after).await?;
        let about = job.object_ref(&());
        let mut events = transitions(Visible::from(before), Visible::from(&after));
        let note = known.state.note.as_deref();
        events.extend(of_state(Recovery::from(before), Recovery::from(&after), note));
        context.publish(events, &about).await;
    }
    Ok(after)
}

async fn clean_up(job: &FlinkSessionJob, context: &Context) -> Result<Action, ReconcileError> {
    if !has_finalizer(job) {
        return Ok(Action::await_change());
    }
    let mut before = job.status.clone().unwrap_or_default();
    let now = context.now();
    if before.lifecycle_state != Some(LifecycleState::Deleting) {
        before = session_job_deleting(&before, job.metadata.generation.unwrap_or_default(), now);
        write_status(&context.client, job, &before).await?;
    }
    let deleted_at = job
        .metadata
        .deletion_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    let since = Duration::try_from(now.duration_since(deleted_at)).unwrap_or_default();
    let session = find_session(job, context).await?;
    if let Departure::Wait(wait) = stop_first(job, context, &before, session.is_some(), since).await? {
        return Ok(Action::requeue(wait));
    }
    match end_job(job, context, &before, session.is_some(), since).await {
        Ending::Done(note) => {
            remove_finalizer(&context.client, job).await?;
            context
                .publish(
                    vec![event(EventType::Normal, "Cleanup", "Delete", note)],
                    &job.object_ref(&()),
                )
                .await;
            Ok(Action::await_change())
        }
        Ending::GivenUp(note) => {
            remove_finalizer(&context.client, job).await?;
            let warning = event(EventType::Warning, "CleanupFailed", "Delete", note);
            context.publish(vec![warning], &job.object_ref(&())).await;
            Ok(Action::await_change())
        }
        Ending::Waiting => Ok(Action::requeue(CANCEL_RECHECK)),
    }
}

/// How far a deleted resource's job is.
enum Ending {
    Done(&'static str),
    GivenUp(String),
    Waiting,
}

async fn end_job(
    job: &FlinkSessionJob,
    context: &Context,
    before: &SessionJobStatus,
    session_exists: bool,
    since: Duration,
) -> Ending {
    if !session_exists {
        return Ending::Done("the session is gone, and the job with it");
    }
    if before.operation_id.is_none() {
        return Ending::Done("the job was never submitted");
    }
    let view = context.watches.view(&session_key(job));
    let Some((view, snapshot)) = view
        .as_ref()
        .and_then(|view| Some((view, view.snapshot.as_deref()?)))
    else {
        let note = "the session's JobManager does not answer; its job, if there is one, was not cancelled";
        return if since >= UNREACHABLE_MAX {
            Ending::GivenUp(note.into())
        } else {
            Ending::Waiting
        };
    };
    let operation_id = before.operation_id.as_deref();
    let Some(pushed) = job_of(Some(snapshot), operation_id) else {
        return Ending::Done("the session does not know the job");
    };
    if JobState::parse(&pushed.state).is_some_and(JobState::is_terminal) {
        return Ending::Done("the job has ended");
    }
    match cancel(context, &view.address, &pushed.job_id, operation_id).await {
        Ok(state) if state.is_empty() => Ending::Done("the session does not know the job"),
        Ok(state) if JobState::parse(&state).is_some_and(JobState::is_terminal) => {
            Ending::Done("the job has ended")
        }
        Ok(_) if since >= CANCEL_MAX => Ending::GivenUp("the job is still CANCELLING".into()),
        Ok(_) => Ending::Waiting,
        Err(error) if since >= UNREACHABLE_MAX => Ending::GivenUp(error.to_string()),
        Err(_) => Ending::Waiting,
    }
}
