//! Makes the FlinkStateSnapshots that a job's resource asks for, and deletes those that are too many.
//!
//! ```text
//!   status.snapshots.pending --create (there already: fine)--> status without it
//! ```
//! Invariant: what is created is in status before; killed anywhere in between, the next pass creates the same again, which is one.

use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use thalweg_crds::{
    ClaimMode, FlinkStateSnapshot, JobState, PendingSnapshot, RecoveryStatus, RequestedSnapshots,
};
use thalweg_proto::cluster::v1::JobStatus as PushedJob;

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

/// As it is in a status: nothing is absent.
pub(crate) fn in_status(requested: RequestedSnapshots) -> Option<RequestedSnapshots> {
    (requested != RequestedSnapshots::default()).then_some(requested)
}

/// What is recorded and not yet created.
pub(crate) fn pending(requested: Option<&RequestedSnapshots>) -> &[PendingSnapshot] {
    requested.map_or(&[], |requested| &requested.pending)
}

/// The record once they are created.
pub(crate) fn without_pending(requested: Option<RequestedSnapshots>) -> Option<RequestedSnapshots> {
    let requested = RequestedSnapshots {
        pending: Vec::new(),
        ..requested?
    };
    in_status(requested)
}

/// Creates them; one that is there was made by an earlier pass whose record was lost.
pub(crate) async fn create_pending(
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
pub(crate) async fn delete_surplus(
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
