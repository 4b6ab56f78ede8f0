//! What to do next about a FlinkStateSnapshot: pure decisions over its spec, its status and what is known of its job.
//!
//! ```text
//!   TRIGGER_PENDING --Trigger--> IN_PROGRESS --Ask--> COMPLETED
//!        ^  |                        |  |
//!        |  `-- job gone, ended -----|--+-----------> ABANDONED
//!        `----- failed, tries left --+--------------> FAILED
//! ```
//! Invariants: an attempt's id follows from the resource and the number of failures before it, and is in status before it is triggered:
//! deciding twice triggers one snapshot; what is COMPLETED, FAILED or ABANDONED stays so.

#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use thalweg_crds::{FlinkStateSnapshotSpec, SnapshotState, StateSnapshotStatus};

use crate::cluster::hash_bytes;

/// What is known of the job that a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobFacts {
    /// There is no such resource, or it names none.
    Missing(String),
    /// It isn't to run, or has ended.
    Ended(String),
    /// It doesn't run yet, or its JobManager does not answer.
    Waiting(String),
    /// It can be asked.
    Running { job_id: String },
}

/// What is known, and where the JobManager is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotFacts {
    pub(crate) job: JobFacts,
    /// Of the JobManager, if it answers.
    pub(crate) address: Option<String>,
    /// Whether the JobManager knows the job of the recorded attempt.
    pub(crate) knows_attempt: bool,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SnapshotStep {
    /// It has ended.
    Nothing,
    /// It is there already.
    Complete { path: String },
    /// It can never be taken.
    Refuse { reason: String },
    /// Its job is gone.
    Abandon { reason: String },
    /// Its job can't be asked yet.
    Wait { reason: String },
    /// The wait after a failure isn't over.
    Backoff(Duration),
    /// An attempt is to be made, or made again under the same id.
    Trigger {
        trigger_id: String,
        job_id: String,
        address: String,
    },
    /// The JobManager is asked how it goes.
    Ask {
        trigger_id: String,
        job_id: String,
        address: String,
    },
}

/// The id of the attempt after so many failures: 32 hex digits, as REST takes them.
pub(crate) fn trigger_id(uid: &str, failures: i32) -> String {
    hash_bytes(format!("{uid}/{failures}").as_bytes(), 16)
}

/// Decides.
pub(crate) fn plan_snapshot(
    uid: &str,
    spec: &FlinkStateSnapshotSpec,
    status: &StateSnapshotStatus,
    facts: &SnapshotFacts,
    now: Timestamp,
) -> SnapshotStep {
    let state = status.state.unwrap_or_default();
    if state.is_terminal() {
        return SnapshotStep::Nothing;
    }
    // The schema has the same rules; they are repeated for an API server without CEL.
    if spec.savepoint.is_some() == spec.checkpoint.is_some() {
        return SnapshotStep::Refuse {
            reason: "spec: exactly one of savepoint and checkpoint must be set".into(),
        };
    }
    if let Some(savepoint) = spec.savepoint.as_ref().filter(|savepoint| savepoint.exists()) {
        return match &savepoint.path {
            Some(path) => SnapshotStep::Complete { path: path.clone() },
            None => SnapshotStep::Refuse {
                reason: "spec.savepoint.path: is needed with alreadyExists".into(),
            },
        };
    }
    match state {
        SnapshotState::InProgress => in_progress(status, facts),
        _ => pending(uid, status, facts, now),
    }
}

fn pending(uid: &str, status: &StateSnapshotStatus, facts: &SnapshotFacts, now: Timestamp) -> SnapshotStep {
    let job_id = match &facts.job {
        JobFacts::Missing(reason) | JobFacts::Ended(reason) => {
            return SnapshotStep::Abandon {
                reason: reason.clone(),
            };
        }
        JobFacts::Waiting(reason) => {
            return SnapshotStep::Wait {
                reason: reason.clone(),
            };
        }
        JobFacts::Running { job_id } => job_id.clone(),
    };
    let wait = status
        .retry_timestamp
        .as_ref()
        .and_then(|time| Duration::try_from(time.0.duration_since(now)).ok());
    if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
        return SnapshotStep::Backoff(wait);
    }
    let Some(address) = facts.address.clone() else {
        return SnapshotStep::Wait {
            reason: "the job's JobManager does not answer yet".into(),
        };
    };
    let trigger_id = status
        .trigger_id
        .clone()
        .unwrap_or_else(|| trigger_id(uid, status.failures.unwrap_or(0)));
    SnapshotStep::Trigger {
        trigger_id,
        job_id,
        address,
    }
}

fn in_progress(status: &StateSnapshotStatus, facts: &SnapshotFacts) -> SnapshotStep {
    let (Some(trigger_id), Some(job_id)) = (status.trigger_id.clone(), status.job_id.clone()) else {
        return SnapshotStep::Refuse {
            reason: "status names no attempt: it was changed by hand".into(),
        };
    };
    // Also of a job that has just ended its JobManager knows how it went.
    if let Some(address) = facts.address.clone().filter(|_| facts.knows_attempt) {
        return SnapshotStep::Ask {
            trigger_id,
            job_id,
            address,
        };
    }
    match &facts.job {
        JobFacts::Missing(reason) | JobFacts::Ended(reason) => SnapshotStep::Abandon {
            reason: reason.clone(),
        },
        JobFacts::Waiting(reason) => SnapshotStep::Wait {
            reason: reason.clone(),
        },
        JobFacts::Running { job_id } => SnapshotStep::Abandon {
            reason: format!("the job was started anew meanwhile, as {job_id}"),
        },
    }
}

/// What is left to do for a deleted resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReleaseStep {
    /// It may go.
    Release,
    /// It goes on until it ends.
    Follow,
    /// The savepoint is to be deleted.
    Dispose { path: String, address: String },
    /// The JobManager is asked how the deletion goes.
    Ask { disposal_id: String, address: String },
    /// No JobManager answers; it is waited for.
    Wait { reason: String },
    /// The savepoint stays in storage.
    GiveUp { reason: String },
}

/// A savepoint that can't be deleted doesn't hold its resource longer than this.
pub(crate) const DISPOSAL_MAX: Duration = Duration::from_secs(300);

/// Decides; `since` the deletion was asked for.
pub(crate) fn plan_release(
    spec: &FlinkStateSnapshotSpec,
    status: &StateSnapshotStatus,
    facts: &SnapshotFacts,
    since: Duration,
) -> ReleaseStep {
    let state = status.state.unwrap_or_default();
    let begun = status.trigger_id.is_some();
    match state {
        _ if !spec.disposes() => return ReleaseStep::Release,
        SnapshotState::Completed => {}
        // What may have been triggered may leave a savepoint.
        SnapshotState::InProgress | SnapshotState::TriggerPending if begun && since < DISPOSAL_MAX => {
            return ReleaseStep::Follow;
        }
        _ => return ReleaseStep::Release,
    }
    let Some(path) = status.path.clone() else {
        return ReleaseStep::Release;
    };
    let told = |reason: &str| {
        format!(
            "the savepoint {path} stays in storage: {reason}; delete it with `thalweg savepoint -d`, or by hand"
        )
    };
    if since >= DISPOSAL_MAX {
        let reason = status
            .error
            .as_deref()
            .unwrap_or("no JobManager of its job answers");
        return ReleaseStep::GiveUp { reason: told(reason) };
    }
    match (&facts.address, &facts.job) {
        (Some(address), _) => match status.disposal_id.clone() {
            Some(disposal_id) => ReleaseStep::Ask {
                disposal_id,
                address: address.clone(),
            },
            None => ReleaseStep::Dispose {
                path,
                address: address.clone(),
            },
        },
        // Nothing is left that has the rights to that storage.
        (None, JobFacts::Missing(reason)) => ReleaseStep::GiveUp { reason: told(reason) },
        (None, JobFacts::Ended(reason) | JobFacts::Waiting(reason)) => ReleaseStep::Wait {
            reason: format!(
                "the savepoint {path} can't be deleted yet: {reason}; start the job, or set \
                 spec.savepoint.disposeOnDelete to false to keep the savepoint"
            ),
        },
        (None, JobFacts::Running { .. }) => ReleaseStep::Wait {
            reason: "the job's JobManager does not answer yet".into(),
        },
    }
}
