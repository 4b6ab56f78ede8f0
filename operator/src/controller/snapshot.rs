//! Reconciles FlinkStateSnapshots: triggers, watches, disposes.
//!
//! ```text
//!   read -> finalizer -> job -> plan -> (intent to status) -> REST: trigger | how it goes -> status, events -> labels
//!   deleted: job -> plan -> (goes on until it ends) -> REST: delete the savepoint -> finalizer off
//! ```
//! Invariants: an attempt's id is in status before it is triggered; the resource is read first, so that nothing is decided from a status
//! that a pass before has replaced; a finalizer is there only while a savepoint is to go with its resource, and never holds it for ever.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use thalweg_crds::{
    FlinkApplication, FlinkSessionJob, FlinkStateSnapshot, JobKind, JobReference, JobState, JobStatus,
    SavepointFormatType, SnapshotState, SnapshotTriggerType, StateSnapshotStatus,
};

use super::resource::{add_finalizer, has_finalizer, read, remove_finalizer, write_status};
use super::{RESYNC, ReconcileError, record, resource_key};
use crate::build::snapshot_labels;
use crate::cluster::ClusterKind;
use crate::cluster_watch::ClusterKey;
use crate::context::Context;
use crate::events::{event, of_snapshot};
use crate::plan::job_of;
use crate::plan::snapshot::{
    JobFacts, ReleaseStep, SnapshotFacts, SnapshotStep, plan_release, plan_snapshot,
};
use crate::plan::snapshots::trigger_type;
use crate::snapshot_client::{Begun, Progress, SnapshotCall};
use crate::status::snapshot::{
    Now, abandoned, completed, disposing, failed, in_progress, not_disposed, refused, triggering, waiting,
};

pub(super) const KIND: &str = "FlinkStateSnapshot";
/// The job's status is pushed, and with it that a snapshot has ended; it is asked for so often all the same.
const PROGRESS_RECHECK: Duration = Duration::from_secs(5);
/// Until a job that isn't there to ask is looked at again.
const JOB_RECHECK: Duration = Duration::from_secs(10);
/// Who applies a folder of manifests may create a job's snapshot before the job.
const JOB_MAX: Duration = Duration::from_secs(60);
const DISPOSAL_RECHECK: Duration = Duration::from_secs(1);
const DISPOSAL_RETRY: Duration = Duration::from_secs(10);

/// One pass.
pub(crate) async fn reconcile(
    snapshot: Arc<FlinkStateSnapshot>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let outcome = pass(snapshot.as_ref(), &context).await;
    record(
        &context,
        KIND,
        &resource_key(snapshot.as_ref()),
        started.elapsed(),
        outcome.as_ref().err(),
    );
    outcome
}

/// Whether nothing is left to do about it.
pub(super) fn settled(snapshot: &FlinkStateSnapshot) -> bool {
    let deleted = snapshot.metadata.deletion_timestamp.is_some();
    state_of(snapshot).is_terminal() && !deleted
}

fn state_of(snapshot: &FlinkStateSnapshot) -> SnapshotState {
    let status = snapshot.status.as_ref();
    status.and_then(|status| status.state).unwrap_or_default()
}

async fn pass(cached: &FlinkStateSnapshot, context: &Context) -> Result<Action, ReconcileError> {
    let read = if settled(cached) {
        Some(cached.clone())
    } else {
        read(&context.client, cached).await?
    };
    let Some(snapshot) = read else {
        return Ok(Action::await_change());
    };
    let pass = Pass {
        snapshot: &snapshot,
        context,
        now: Now {
            generation: snapshot.metadata.generation.unwrap_or_default(),
            time: context.now(),
        },
    };
    if snapshot.metadata.deletion_timestamp.is_some() {
        return pass.release().await;
    }
    match (snapshot.spec.disposes(), has_finalizer(&snapshot)) {
        (true, false) => add_finalizer(&context.client, &snapshot).await?,
        (false, true) => remove_finalizer(&context.client, &snapshot).await?,
        _ => {}
    }
    let (after, wait) = pass.advance().await?;
    pass.label(after.state.unwrap_or_default()).await?;
    Ok(Action::requeue(wait))
}

/// One snapshot, at one time.
struct Pass<'a> {
    snapshot: &'a FlinkStateSnapshot,
    context: &'a Context,
    now: Now,
}

impl Pass<'_> {
    fn status(&self) -> StateSnapshotStatus {
        self.snapshot.status.clone().unwrap_or_default()
    }

    /// Takes the next step; the status then, and when to look again.
    async fn advance(&self) -> Result<(StateSnapshotStatus, Duration), ReconcileError> {
        let (spec, before) = (&self.snapshot.spec, self.status());
        let uid = self.snapshot.uid().unwrap_or_default();
        let facts = if settled(self.snapshot) {
            nothing_known()
        } else {
            self.look(&before).await?
        };
        let step = plan_snapshot(&uid, spec, &before, &facts, self.now.time);
        let (after, wait) = match step {
            SnapshotStep::Nothing => return Ok((before, RESYNC)),
            SnapshotStep::Complete { path } => (completed(&before, Some(path), self.now), RESYNC),
            SnapshotStep::Refuse { reason } => (refused(&before, &reason, self.now), RESYNC),
            SnapshotStep::Abandon { reason } => (abandoned(&before, &reason, self.now), RESYNC),
            SnapshotStep::Wait { reason } => (waiting(&before, &reason, self.now), JOB_RECHECK),
            SnapshotStep::Backoff(wait) => (before.clone(), wait),
            SnapshotStep::Trigger {
                trigger_id,
                job_id,
                address,
            } => self.trigger(&before, trigger_id, job_id, &address).await?,
            SnapshotStep::Ask {
                trigger_id,
                job_id,
                address,
            } => self.ask(&before, trigger_id, job_id, &address).await?,
        };
        self.write(&before, &after).await?;
        Ok((after, wait))
    }

    fn call(&self, trigger_id: String, job_id: String) -> SnapshotCall {
        let savepoint = self.snapshot.spec.savepoint.as_ref();
        let format = savepoint.and_then(|savepoint| savepoint.format_type);
        SnapshotCall {
            snapshot_type: self.snapshot.spec.snapshot_type(),
            job_id,
            trigger_id,
            directory: savepoint.and_then(|savepoint| savepoint.path.clone()),
            format_type: format.unwrap_or(SavepointFormatType::Canonical).as_str(),
        }
    }

    async fn trigger(
        &self,
        before: &StateSnapshotStatus,
        trigger_id: String,
        job_id: String,
        address: &str,
    ) -> Result<(StateSnapshotStatus, Duration), ReconcileError> {
        let intended = triggering(before, &trigger_id, &job_id, self.now);
        if intended.trigger_id != before.trigger_id || intended.job_id != before.job_id {
            write_status(&self.context.client, self.snapshot, &intended).await?;
        }
        tracing::info!(
            namespace = self.snapshot.namespace(),
            name = self.snapshot.name_any(),
            job_id,
            trigger_id,
            "triggering a snapshot"
        );
        let call = self.call(trigger_id, job_id);
        Ok(
            match self.context.snapshot_client.trigger(address, &call).await? {
                Begun::Yes => (in_progress(&intended, self.now), PROGRESS_RECHECK),
                Begun::Refused(reason) => self.attempt_failed(&intended, &reason),
            },
        )
    }

    async fn ask(
        &self,
        before: &StateSnapshotStatus,
        trigger_id: String,
        job_id: String,
        address: &str,
    ) -> Result<(StateSnapshotStatus, Duration), ReconcileError> {
        let call = self.call(trigger_id, job_id);
        let progress = self.context.snapshot_client.progress(address, &call).await?;
        Ok(match progress {
            Progress::UnderWay => (before.clone(), PROGRESS_RECHECK),
            Progress::Completed(path) => (completed(before, path, self.now), RESYNC),
            Progress::Failed(reason) => self.attempt_failed(before, &reason),
            Progress::Unknown => {
                let reason =
                    "the JobManager does not know the snapshot any more: it was started anew meanwhile";
                self.attempt_failed(before, reason)
            }
        })
    }

    fn attempt_failed(&self, before: &StateSnapshotStatus, reason: &str) -> (StateSnapshotStatus, Duration) {
        let after = failed(before, self.snapshot.spec.backoff_limit, reason, self.now);
        let retry = after.retry_timestamp.as_ref();
        let wait = retry.and_then(|time| Duration::try_from(time.0.duration_since(self.now.time)).ok());
        (after, wait.unwrap_or(RESYNC))
    }

    async fn write(
        &self,
        before: &StateSnapshotStatus,
        after: &StateSnapshotStatus,
    ) -> Result<(), ReconcileError> {
        if after == before {
            return Ok(());
        }
        write_status(&self.context.client, self.snapshot, after).await?;
        let about = self.snapshot.object_ref(&());
        self.context.publish(of_snapshot(before, after), &about).await;
        Ok(())
    }

    /// Writes the labels that say what it is and how far, if they differ.
    async fn label(&self, state: SnapshotState) -> Result<(), ReconcileError> {
        let trigger_type = match trigger_type(self.snapshot) {
            SnapshotTriggerType::Unknown => SnapshotTriggerType::Manual,
            known => known,
        };
        let wanted = snapshot_labels(&self.snapshot.spec, trigger_type, state);
        let changed: BTreeMap<&String, &String> = wanted
            .iter()
            .filter(|(key, value)| self.snapshot.labels().get(*key) != Some(*value))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let patch = json!({"metadata": {"labels": changed, "uid": self.snapshot.uid()}});
        let api: Api<FlinkStateSnapshot> = Api::namespaced(
            self.context.client.clone(),
            &self.snapshot.namespace().unwrap_or_default(),
        );
        let name = self.snapshot.name_any();
        match api
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(ReconcileError::Labels(source)),
        }
    }

    /// What is known of its job.
    async fn look(&self, status: &StateSnapshotStatus) -> Result<SnapshotFacts, ReconcileError> {
        let namespace = self.snapshot.namespace().unwrap_or_default();
        let Some(reference) = &self.snapshot.spec.job_reference else {
            return Ok(nothing_known());
        };
        let job = find_job(self.context, &namespace, reference).await?;
        let mut facts = facts_of(self.context, reference, job, status);
        if let JobFacts::Missing(reason) = &facts.job
            && self.is_new()
        {
            facts.job = JobFacts::Waiting(format!("{reason} yet"));
        }
        Ok(facts)
    }

    fn is_new(&self) -> bool {
        let metadata = &self.snapshot.metadata;
        let created = metadata.creation_timestamp.as_ref();
        let age = created.and_then(|time| Duration::try_from(self.now.time.duration_since(time.0)).ok());
        metadata.deletion_timestamp.is_none() && age.is_some_and(|age| age < JOB_MAX)
    }

    /// A deleted one: its savepoint goes first, if it is to.
    async fn release(&self) -> Result<Action, ReconcileError> {
        if !has_finalizer(self.snapshot) {
            return Ok(Action::await_change());
        }
        let before = self.status();
        let deleted = self.snapshot.metadata.deletion_timestamp.as_ref();
        let deleted_at = deleted.map_or(self.now.time, |time| time.0);
        let since = Duration::try_from(self.now.time.duration_since(deleted_at)).unwrap_or_default();
        let facts = self.look(&before).await?;
        match plan_release(&self.snapshot.spec, &before, &facts, since) {
            ReleaseStep::Follow => {
                let (after, wait) = self.advance().await?;
                let next = if after.state.unwrap_or_default().is_terminal() {
                    Duration::ZERO
                } else {
                    wait
                };
                Ok(Action::requeue(next))
            }
            ReleaseStep::Release => self.let_go(None).await,
            ReleaseStep::GiveUp { reason } => {
                self.let_go(Some((EventType::Warning, "CleanupFailed", reason)))
                    .await
            }
            ReleaseStep::Wait { reason } => {
                let after = not_disposed(&before, &reason);
                self.write(&before, &after).await?;
                Ok(Action::requeue(DISPOSAL_RETRY))
            }
            ReleaseStep::Dispose { path, address } => {
                let disposal_id = self.context.snapshot_client.dispose(&address, &path).await?;
                self.write(&before, &disposing(&before, &disposal_id)).await?;
                Ok(Action::requeue(DISPOSAL_RECHECK))
            }
            ReleaseStep::Ask { disposal_id, address } => self.disposed(&before, &disposal_id, &address).await,
        }
    }

    async fn disposed(
        &self,
        before: &StateSnapshotStatus,
        disposal_id: &str,
        address: &str,
    ) -> Result<Action, ReconcileError> {
        let progress = self
            .context
            .snapshot_client
            .disposal(address, disposal_id)
            .await?;
        let reason = match progress {
            Progress::UnderWay => return Ok(Action::requeue(DISPOSAL_RECHECK)),
            Progress::Completed(_) => {
                let path = before.path.clone().unwrap_or_default();
                let note = format!("the savepoint {path} is deleted");
                return self.let_go(Some((EventType::Normal, "Cleanup", note))).await;
            }
            Progress::Failed(reason) => reason,
            Progress::Unknown => "the JobManager was started anew meanwhile".into(),
        };
        self.write(before, &not_disposed(before, &reason)).await?;
        Ok(Action::requeue(DISPOSAL_RETRY))
    }

    async fn let_go(&self, told: Option<(EventType, &str, String)>) -> Result<Action, ReconcileError> {
        remove_finalizer(&self.context.client, self.snapshot).await?;
        if let Some((type_, reason, note)) = told {
            let about = self.snapshot.object_ref(&());
            let events = vec![event(type_, reason, "Delete", note)];
            self.context.publish(events, &about).await;
        }
        Ok(Action::await_change())
    }
}

fn nothing_known() -> SnapshotFacts {
    SnapshotFacts {
        job: JobFacts::Missing("spec.jobReference names no job".into()),
        address: None,
        knows_attempt: false,
    }
}

/// A job's resource, as far as a snapshot of it is concerned.
struct FoundJob {
    cluster: ClusterKey,
    operation_id: Option<String>,
    suspended: bool,
    recorded: Option<JobStatus>,
}

async fn find_job(
    context: &Context,
    namespace: &str,
    reference: &JobReference,
) -> Result<Option<FoundJob>, ReconcileError> {
    let key = |kind, name: &str| ClusterKey {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let client = context.client.clone();
    Ok(match reference.kind {
        JobKind::FlinkApplication => {
            let api: Api<FlinkApplication> = Api::namespaced(client, namespace);
            let found = api.get_opt(&reference.name).await.map_err(ReconcileError::Read)?;
            found.map(|application| {
                let status = application.status.unwrap_or_default();
                FoundJob {
                    cluster: key(ClusterKind::Application, &reference.name),
                    operation_id: status.operation_id,
                    suspended: application.spec.job.suspended(),
                    recorded: status.job_status,
                }
            })
        }
        JobKind::FlinkSessionJob => {
            let api: Api<FlinkSessionJob> = Api::namespaced(client, namespace);
            let found = api.get_opt(&reference.name).await.map_err(ReconcileError::Read)?;
            found.map(|job| {
                let status = job.status.unwrap_or_default();
                FoundJob {
                    cluster: key(ClusterKind::Session, &job.spec.session_name),
                    operation_id: status.operation_id,
                    suspended: job.spec.job.suspended(),
                    recorded: status.job_status,
                }
            })
        }
    })
}

/// Draws the facts from the resource and from what its JobManager has said.
fn facts_of(
    context: &Context,
    reference: &JobReference,
    found: Option<FoundJob>,
    status: &StateSnapshotStatus,
) -> SnapshotFacts {
    let name = format!("{} {}", reference.kind, reference.name);
    let Some(found) = found else {
        return SnapshotFacts {
            job: JobFacts::Missing(format!("there is no {name} in this namespace")),
            address: None,
            knows_attempt: false,
        };
    };
    let view = context.watches.view(&found.cluster);
    let view = view.as_ref().filter(|view| view.connected);
    let snapshot = view.and_then(|view| view.snapshot.as_deref());
    let pushed = job_of(snapshot, found.operation_id.as_deref());
    let recorded = found.recorded.as_ref().and_then(|job| job.state);
    let job = match pushed {
        Some(job) => match JobState::parse(&job.state) {
            Some(JobState::Running) => JobFacts::Running {
                job_id: job.job_id.clone(),
            },
            Some(state) if state.is_terminal() => JobFacts::Ended(format!("the job of {name} is {state}")),
            _ => JobFacts::Waiting(format!("the job of {name} is {}", job.state)),
        },
        None if found.suspended => JobFacts::Ended(format!("{name} is suspended")),
        None => match recorded.filter(|state| state.is_terminal()) {
            Some(state) => JobFacts::Ended(format!("the job of {name} is {state}")),
            None => JobFacts::Waiting(format!("the JobManager of {name} does not answer yet")),
        },
    };
    let attempt = status.job_id.as_deref();
    let knows = |snapshot: &thalweg_proto::cluster::v1::ClusterSnapshot| {
        snapshot
            .jobs
            .iter()
            .any(|job| Some(job.job_id.as_str()) == attempt)
    };
    SnapshotFacts {
        job,
        address: snapshot.and(view).map(|view| view.address.clone()),
        knows_attempt: snapshot.is_some_and(knows),
    }
}
