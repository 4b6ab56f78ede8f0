//! The savepoint that a job is stopped with before its resource goes (`kubernetes.operator.job.savepoint-on-deletion`): pure.
//!
//! ```text
//!   not asked for, nothing runs, settled before --> Go
//!   RUNNING --> Trigger --> Wait --> Done
//!                  ^          `--> Failed: the next attempt
//!   too long --> GivenUp: the deletion goes on without it
//! ```
//! Invariants: an attempt's id is in status before it is made; how it ended is in status before anything is deleted; no failure holds a
//! deletion longer than `kubernetes.operator.resource.cleanup.timeout`.

#[cfg(test)]
mod tests;

use std::time::Duration;

use thalweg_crds::{JobState, RecoveryStatus};
use thalweg_proto::cluster::v1::{JobStatus as PushedJob, SavepointStatus};

use super::is_terminal;
use super::state::JobManagerVoice;
use crate::policy::Policy;

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeletionStep {
    /// There is nothing to wait for.
    Go,
    /// The job is to be asked to stop.
    Trigger { operation_id: String, job_id: String },
    /// The JobManager is at it, or the job doesn't run yet.
    Wait,
    /// It is there.
    Done { path: String },
    /// An attempt failed; another is made under this id.
    Failed { next_id: String, reason: String },
    /// There will be none.
    GivenUp { reason: String },
}

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleted<'a> {
    pub(crate) uid: &'a str,
    pub(crate) policy: &'a Policy,
    pub(crate) recovery: &'a RecoveryStatus,
    /// Whether a job runs, as far as status says: it isn't suspended and has not ended.
    pub(crate) active: bool,
    /// What an earlier stop left, for good.
    pub(crate) upgrade_path: Option<&'a str>,
    pub(crate) pushed: Option<&'a PushedJob>,
    pub(crate) job_manager: JobManagerVoice,
    /// Since the deletion was asked for.
    pub(crate) since: Duration,
}

/// Decides.
pub(crate) fn before_deletion(deleted: &Deleted<'_>) -> DeletionStep {
    let Deleted { recovery, policy, .. } = *deleted;
    // Of an upgrade that could not be made nothing is taken over: this is another reason to stop.
    let recorded = recovery
        .savepoint_operation_id
        .as_ref()
        .filter(|id| recovery.savepoint_failure.is_none() || attempt_of(deleted.uid, id).is_some());
    let gave_up = recovery.savepoint_failure.is_some() && recorded.is_some();
    let settled = deleted.upgrade_path.is_some() || gave_up;
    if !policy.savepoint_on_deletion || !deleted.active || settled {
        return DeletionStep::Go;
    }
    if let Some(job) = deleted.pushed
        && let Some(savepoint) = done(job)
    {
        return DeletionStep::Done {
            path: savepoint.path.clone(),
        };
    }
    if deleted.since >= policy.cleanup_timeout {
        let seconds = policy.cleanup_timeout.as_secs();
        return DeletionStep::GivenUp {
            reason: format!("the job could not be stopped with a savepoint within {seconds} s"),
        };
    }
    let Some(job) = deleted.pushed else {
        return match deleted.job_manager {
            JobManagerVoice::Silent => DeletionStep::Wait,
            JobManagerVoice::Answers | JobManagerVoice::Gone => DeletionStep::GivenUp {
                reason: "no savepoint can be taken: the job's JobManager does not run".into(),
            },
        };
    };
    if is_terminal(job) {
        return DeletionStep::Go;
    }
    let id = recorded.cloned().unwrap_or_else(|| attempt_id(deleted.uid, 1));
    match job.savepoints.iter().find(|one| one.operation_id == id) {
        Some(attempt) if attempt.ended_ms == 0 => DeletionStep::Wait,
        Some(attempt) => DeletionStep::Failed {
            next_id: next_id(deleted.uid, &id),
            reason: attempt
                .failure
                .as_ref()
                .map_or_else(|| "no cause is known".into(), |failure| failure.message.clone()),
        },
        None if JobState::parse(&job.state) == Some(JobState::Running) => DeletionStep::Trigger {
            operation_id: id,
            job_id: job.job_id.clone(),
        },
        None => DeletionStep::Wait,
    }
}

/// A job that was stopped behind a savepoint, whoever asked for it.
fn done(job: &PushedJob) -> Option<&SavepointStatus> {
    let mut stops = job.savepoints.iter().filter(|one| one.stops_job);
    stops.find(|one| one.ended_ms > 0 && one.failure.is_none() && !one.path.is_empty())
}

fn attempt_id(uid: &str, attempt: u32) -> String {
    format!("{uid}-delete-{attempt}-stop")
}

/// One that was begun for an upgrade is followed by the first of the deletion.
pub(crate) fn next_id(uid: &str, id: &str) -> String {
    attempt_id(uid, attempt_of(uid, id).unwrap_or(0).saturating_add(1))
}

/// Its number; none: it isn't of a deletion.
fn attempt_of(uid: &str, id: &str) -> Option<u32> {
    let rest = id.strip_prefix(uid)?.strip_prefix("-delete-")?;
    rest.strip_suffix("-stop")?.parse().ok()
}
