//! The snapshots of a FlinkSessionJob: those that it asks for, its newest savepoint, the one that it is stopped with at its end.

use std::time::Duration;

use kube::ResourceExt;
use thalweg_crds::{FlinkSessionJob, JobKind, SavepointInfo, SessionJobStatus};
use thalweg_proto::cluster::v1::JobStatus as PushedJob;

use super::session_key;
use crate::build::SnapshotOf;
use crate::cluster::Job;
use crate::context::Context;
use crate::controller::ReconcileError;
use crate::controller::departure::{Departure, Leaving, depart, is_active};
use crate::controller::requests::{in_status, running_since, stopped_with};
use crate::plan::deletion::Deleted;
use crate::plan::job_of;
use crate::plan::session_job::JobStep;
use crate::plan::snapshots::{Requests, request};
use crate::plan::state::JobManagerVoice;
use crate::policy::has_operator_keys;
use crate::status::savepoints::savepoint_info;
use crate::status::session_job::Known;
use crate::validate::validate_session_job;

/// Its newest savepoint, if the session tells of one.
pub(super) fn newest_savepoint(
    job: &FlinkSessionJob,
    context: &Context,
    pushed: Option<&PushedJob>,
    before: &SessionJobStatus,
) -> Option<SavepointInfo> {
    let pushed = pushed.filter(|job| !job.savepoints.is_empty())?;
    let recorded = before
        .job_status
        .as_ref()
        .and_then(|job| job.savepoint_info.as_ref());
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let known = context.snapshots.of_job(&snapshots_of(&namespace, &name));
    savepoint_info(Some(pushed), recorded, &known)
}

pub(super) fn snapshots_of<'a>(namespace: &'a str, name: &'a str) -> SnapshotOf<'a> {
    SnapshotOf {
        kind: JobKind::FlinkSessionJob,
        namespace,
        name,
    }
}

/// Records the snapshots that are asked for; when time alone asks for another.
pub(super) fn ask_for_snapshots(
    job: &FlinkSessionJob,
    context: &Context,
    spec: &Job,
    before: &SessionJobStatus,
    step: &JobStep,
    known: &mut Known<'_>,
) -> Option<Duration> {
    let left = match step {
        JobStep::Submit { state, .. } | JobStep::Rest { state } => stopped_with(&before.recovery, state),
        _ => None,
    };
    let wanted = Requests {
        name: &job.name_any(),
        job: spec,
        first: before.observed_generation.is_none(),
        running_since: running_since(known.pushed.filter(|_| *step == JobStep::Nothing)),
        stopped_with: left,
        now: context.now(),
    };
    let (record, due) = request(&wanted, &before.snapshots.clone().unwrap_or_default());
    known.snapshots = in_status(record);
    due
}

/// Stops the job with a savepoint before anything is ended, if that is asked for.
pub(super) async fn stop_first(
    job: &FlinkSessionJob,
    context: &Context,
    status: &SessionJobStatus,
    session_exists: bool,
    since: Duration,
) -> Result<Departure, ReconcileError> {
    let configuration = job.spec.flink_configuration.as_ref();
    if !session_exists || !has_operator_keys(configuration) {
        return Ok(Departure::Go);
    }
    // What is invalid asks for nothing.
    let Ok((spec, _)) = validate_session_job(&job.spec.job, configuration) else {
        return Ok(Departure::Go);
    };
    let view = context.watches.view(&session_key(job));
    let snapshot = view.as_ref().and_then(|view| view.snapshot.as_deref());
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let recorded = status.job_status.as_ref();
    let leaving = Leaving {
        of: snapshots_of(&namespace, &name),
        job: &spec,
        facts: Deleted {
            uid: &job.uid().unwrap_or_default(),
            policy: &spec.policy,
            recovery: &status.recovery,
            active: is_active(status.operation_id.as_deref(), &status.recovery, recorded),
            upgrade_path: recorded.and_then(|job| job.upgrade_savepoint_path.as_deref()),
            pushed: job_of(snapshot, status.operation_id.as_deref()),
            job_manager: match snapshot {
                Some(_) => JobManagerVoice::Answers,
                None => JobManagerVoice::Silent,
            },
            since,
        },
        address: view.as_ref().map_or("", |view| view.address.as_str()),
    };
    depart(context, job, status, &leaving).await
}
