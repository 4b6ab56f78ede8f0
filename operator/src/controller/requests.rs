//! Makes the FlinkStateSnapshots that a job's resource asks for, and deletes those that are too many.
//!
//! ```text
//!   status.snapshots.pending --create (there already: fine)--> status without it
//! ```
//! Invariant: what is created is in status before; killed anywhere in between, the next pass creates the same again, which is one.

use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use thalweg_crds::{
    ClaimMode, ClusterStatus, FlinkStateSnapshot, JobState, JobStatus, PendingSnapshot, RecoveryStatus,
    RequestedSnapshots, SessionJobStatus,
};
use thalweg_proto::cluster::v1::JobStatus as PushedJob;

use super::ReconcileError;
use super::resource::{CustomResource, write_status};
use crate::apply::ApplyError;
use crate::build::{SnapshotOf, snapshot};
use crate::cluster::Job;
use crate::context::Context;
use crate::names::MANAGER;
use crate::plan::snapshots::surplus;
use crate::plan::state::StatePlan;

const KIND: &str = "FlinkStateSnapshot";

/// Since when a job is RUNNING.
pub(crate) fn running_since(job: Option<&PushedJob>) -> Option<Timestamp> {
    let job = job.filter(|job| JobState::parse(&job.state) == Some(JobState::Running))?;
    let milliseconds = i64::try_from(job.start_time_ms).ok()?;
    Timestamp::from_millisecond(milliseconds).ok()
}

/// The savepoint with which the job has just been stopped: the stop is no longer recorded, the next start takes what it left.
pub(crate) fn stopped_with<'a>(before: &RecoveryStatus, state: &'a StatePlan) -> Option<&'a str> {
    let ended = before.savepoint_operation_id.is_some()
        && before.savepoint_failure.is_none()
        && state.hold.is_none()
        && state.note.is_none();
    let source = state.upgrade.as_ref().or(state.restore.as_ref())?;
    (ended && source.claim_mode == ClaimMode::NoClaim).then_some(source.path.as_str())
}

/// The parts of a status that are about a job's snapshots.
pub(crate) trait JobRecord: Clone + PartialEq + Serialize + Send + Sync {
    fn recovery(&self) -> &RecoveryStatus;
    fn recovery_mut(&mut self) -> &mut RecoveryStatus;
    fn job_mut(&mut self) -> &mut Option<JobStatus>;
    fn snapshots_mut(&mut self) -> &mut Option<RequestedSnapshots>;
}

macro_rules! job_record {
    ($status:ty) => {
        impl JobRecord for $status {
            fn recovery(&self) -> &RecoveryStatus {
                &self.recovery
            }
            fn recovery_mut(&mut self) -> &mut RecoveryStatus {
                &mut self.recovery
            }
            fn job_mut(&mut self) -> &mut Option<JobStatus> {
                &mut self.job_status
            }
            fn snapshots_mut(&mut self) -> &mut Option<RequestedSnapshots> {
                &mut self.snapshots
            }
        }
    };
}
job_record!(ClusterStatus);
job_record!(SessionJobStatus);

/// Creates the snapshots that a status tells of, and deletes those that are too many. `recorded` is the status as it was written last.
pub(crate) async fn keep_snapshots<K: CustomResource, S: JobRecord>(
    context: &Context,
    resource: &K,
    of: &SnapshotOf<'_>,
    job: &Job,
    recorded: &mut S,
) -> Result<(), ReconcileError> {
    create_recorded(context, resource, of, job, recorded).await?;
    let state = recorded.job_mut().as_ref().and_then(|job| job.state);
    if state == Some(JobState::Running) {
        let in_use: Vec<&str> = recorded.recovery().restore_path.as_deref().into_iter().collect();
        delete_surplus(context, of, job, &in_use).await?;
    }
    Ok(())
}

/// Creates the snapshots that a status tells of, and takes them out of it.
pub(crate) async fn create_recorded<K: CustomResource, S: JobRecord>(
    context: &Context,
    resource: &K,
    of: &SnapshotOf<'_>,
    job: &Job,
    recorded: &mut S,
) -> Result<(), ReconcileError> {
    let Some(mut requested) = recorded.snapshots_mut().clone() else {
        return Ok(());
    };
    let all = std::mem::take(&mut requested.pending);
    if all.is_empty() {
        return Ok(());
    }
    create_pending(&context.client, of, job, &all).await?;
    *recorded.snapshots_mut() = in_status(requested);
    Ok(write_status(&context.client, resource, recorded).await?)
}

/// As it is in a status: nothing is absent.
pub(crate) fn in_status(requested: RequestedSnapshots) -> Option<RequestedSnapshots> {
    (requested != RequestedSnapshots::default()).then_some(requested)
}

/// Creates them; one that is there was made by an earlier pass whose record was lost.
async fn create_pending(
    client: &Client,
    of: &SnapshotOf<'_>,
    job: &Job,
    pending: &[PendingSnapshot],
) -> Result<(), ApplyError> {
    let api: Api<FlinkStateSnapshot> = Api::namespaced(client.clone(), of.namespace);
    let parameters = PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    };
    for one in pending {
        match api.create(&parameters, &snapshot(of, one, &job.policy)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(source) => {
                return Err(ApplyError::Apply {
                    kind: KIND.into(),
                    name: one.name.clone(),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Deletes those that are too many or too old; `in_use`: paths that the job starts from.
async fn delete_surplus(
    context: &Context,
    of: &SnapshotOf<'_>,
    job: &Job,
    in_use: &[&str],
) -> Result<(), ApplyError> {
    let all = context.snapshots.of_job(of);
    let api: Api<FlinkStateSnapshot> = Api::namespaced(context.client.clone(), of.namespace);
    for one in surplus(&all, job, in_use, context.now()) {
        let name = one.name_any();
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: one.uid(),
            resource_version: None,
        });
        tracing::info!(
            name,
            namespace = of.namespace,
            "deleting a snapshot of the history"
        );
        match api.delete(&name, &parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(source) => {
                return Err(ApplyError::Delete {
                    kind: KIND.into(),
                    name,
                    source,
                });
            }
        }
    }
    Ok(())
}
