//! What is left to do before a deleted resource may go.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::task_managers::{OVERDUE, deletion, force_if_overdue, sooner};
use super::{PodDeletion, is_terminal};
use crate::observe::Facts;

/// Looked at again although nothing told us to: pods of vanished nodes report nothing.
const RECHECK: Duration = Duration::from_secs(5);

/// A job that takes longer to end than this ends with its pods; what it has in storage stays.
const ENDING_MAX: Duration = Duration::from_secs(60);
/// The end of a job is pushed; this is for a JobManager that says nothing.
pub(crate) const ENDING_RECHECK: Duration = Duration::from_secs(2);

/// Whether jobs are to end before their pods go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// None has to.
    Go,
    /// They have: what JobManagers left for each other in storage is to go, while one of them is there to do it.
    Retire,
    Wait {
        /// Ids of jobs to be cancelled.
        cancel: Vec<String>,
        recheck_after: Duration,
    },
}

/// Decides; `since` is for how long the resource is deleted. Without high availability a job's end leaves nothing that the
/// end of its pods doesn't.
pub(crate) fn plan_ending(facts: &Facts, since: Duration) -> Ending {
    let deployed = facts.deployment.as_ref();
    let deployed = deployed.filter(|found| !found.deleting && found.foreign_owner.is_none());
    if !deployed.is_some_and(|found| found.high_availability) || since >= ENDING_MAX {
        return Ending::Go;
    }
    let wait = |cancel| Ending::Wait {
        cancel,
        recheck_after: ENDING_RECHECK,
    };
    let runs = |pod: &crate::observe::PodFacts| pod.alive() && pod.running && pod.problem.is_none();
    match facts.view.as_ref().and_then(|view| view.snapshot.as_deref()) {
        None if facts.job_managers.iter().any(runs) => wait(Vec::new()),
        None => Ending::Go,
        Some(snapshot) => {
            let running = snapshot.jobs.iter().filter(|job| !is_terminal(job));
            let cancel: Vec<String> = running.map(|job| job.job_id.clone()).collect();
            if cancel.is_empty() {
                Ending::Retire
            } else {
                wait(cancel)
            }
        }
    }
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cleanup {
    pub(crate) delete_deployment: bool,
    pub(crate) delete: Vec<PodDeletion>,
    /// No pod is left: what the pods needed may go, and then the finalizer.
    pub(crate) done: bool,
    pub(crate) recheck_after: Duration,
}

/// Decides; `deleted_at` is the resource's deletion timestamp.
pub(crate) fn plan_cleanup(facts: &Facts, deleted_at: Timestamp, now: Timestamp) -> Cleanup {
    let deployment = facts
        .deployment
        .as_ref()
        .filter(|deployment| deployment.foreign_owner.is_none());
    let mut delete = Vec::new();
    let mut recheck_after = None;
    for pod in &facts.task_managers {
        match pod.deletion {
            Some(deadline) => force_if_overdue(pod, deadline, now, &mut delete, &mut recheck_after),
            None => delete.push(deletion(pod, "Cleanup")),
        }
    }
    // The garbage collector deletes the JobManager's pod after its Deployment; if it doesn't, we do.
    let collector_late =
        Duration::try_from(now.duration_since(deleted_at)).is_ok_and(|since| since >= OVERDUE);
    for pod in &facts.job_managers {
        match pod.deletion {
            Some(deadline) => force_if_overdue(pod, deadline, now, &mut delete, &mut recheck_after),
            None if deployment.is_none() && collector_late => delete.push(deletion(pod, "Cleanup")),
            None => {}
        }
    }
    sooner(&mut recheck_after, RECHECK);
    Cleanup {
        delete_deployment: deployment.is_some_and(|deployment| !deployment.deleting),
        delete,
        done: deployment.is_none() && facts.task_managers.is_empty() && facts.job_managers.is_empty(),
        recheck_after: recheck_after.unwrap_or(RECHECK),
    }
}
