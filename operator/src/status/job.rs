//! The job's part of a status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use thalweg_crds::{CheckpointStatus, ClusterStatus, JobState, JobStatus};
use thalweg_proto::cluster::v1::{CheckpointStatus as PushedCheckpoints, JobStatus as PushedJob};

use crate::observe::Facts;
use crate::plan::state::own_checkpoint;
use crate::plan::{Goal, Plan, application_failed, end_recorded, job_of};

/// An application's job. A checkpoint counts for the start that took it.
pub(super) fn application(plan: &Plan, facts: &Facts, previous: &ClusterStatus) -> JobStatus {
    let before = previous
        .job_status
        .as_ref()
        .filter(|_| plan.operation_id.is_some() && previous.operation_id == plan.operation_id);
    let job = state_of(plan, facts, previous);
    JobStatus {
        upgrade_savepoint_path: plan.state.upgrade.as_ref().map(|source| source.path.clone()),
        checkpoint: job
            .checkpoint
            .filter(|_| plan.operation_id.is_some())
            .or_else(|| before.and_then(|before| before.checkpoint.clone())),
        savepoint_info: previous
            .job_status
            .as_ref()
            .and_then(|before| before.savepoint_info.clone()),
        ..job
    }
}

fn state_of(plan: &Plan, facts: &Facts, previous: &ClusterStatus) -> JobStatus {
    let before = previous.job_status.clone().unwrap_or_default();
    if plan.goal == Goal::Suspended {
        return JobStatus {
            state: Some(JobState::Suspended),
            ..before
        };
    }
    if end_recorded(previous, plan.operation_id.as_deref()) {
        return before;
    }
    // Of another JobManager than the planned one nothing is believed.
    let current = facts
        .deployment
        .as_ref()
        .is_some_and(|found| found.hash == plan.job_manager_hash);
    let view = facts.view.as_ref().filter(|_| current);
    let snapshot = view.and_then(|view| view.snapshot.as_deref());
    match job_of(snapshot, plan.operation_id.as_deref()) {
        Some(job) => pushed(job),
        None if application_failed(snapshot) => JobStatus {
            state: Some(JobState::Failed),
            ..JobStatus::default()
        },
        None if snapshot.is_some() => JobStatus {
            state: Some(JobState::Initializing),
            ..JobStatus::default()
        },
        None => JobStatus {
            state: Some(JobState::Reconciling),
            job_id: None,
            checkpoint: None,
            ..before
        },
    }
}

/// A job as its JobManager tells it.
pub(crate) fn pushed(job: &PushedJob) -> JobStatus {
    JobStatus {
        job_name: Some(job.name.clone()).filter(|name| !name.is_empty()),
        job_id: Some(job.job_id.clone()).filter(|id| !id.is_empty()),
        // A state of a newer JobManager that we don't know.
        state: Some(JobState::parse(&job.state).unwrap_or(JobState::Reconciling)),
        start_time: time(job.start_time_ms),
        update_time: time(job.state_since_ms),
        restarts: Some(job.restarts.into()),
        last_failure: job.last_failure.as_ref().map(|failure| failure.message.clone()),
        checkpoint: own_checkpoint(job).map(checkpoint),
        savepoint_info: None,
        upgrade_savepoint_path: None,
    }
}

fn checkpoint(pushed: &PushedCheckpoints) -> CheckpointStatus {
    CheckpointStatus {
        id: i64::try_from(pushed.latest_id).unwrap_or(i64::MAX),
        path: pushed.latest_path.clone(),
        completed_time: time(pushed.latest_completed_ms),
        size_bytes: i64::try_from(pushed.latest_size).ok(),
    }
}

pub(super) fn time(milliseconds: u64) -> Option<Time> {
    let seconds = i64::try_from(milliseconds / 1000)
        .ok()
        .filter(|seconds| *seconds > 0)?;
    Timestamp::from_second(seconds).ok().map(Time)
}
