//! What to do next: a pure decision over a validated cluster, its recorded status and the facts.
//!
//! ```text
//!                      a stop with savepoint?   --> Stopping: the old job stays as it is
//!                      spec suspended?          --> Suspended: no JobManager, no TaskManagers
//!   Cluster + status   the job's end recorded?  --> Ended: the JobManager stays to be looked at, no TaskManagers
//!   + Facts            else                     --> Run: JobManager of this hash, TaskManagers of this hash
//! ```
//! Invariants: a JobManager is replaced only when the hash of its inputs differs; a TaskManager likewise; the
//! operation id of a new JobManager follows from the resource's uid and generation, so deciding twice decides the
//! same; a job whose end is recorded never runs again under the same operation id.

pub(crate) mod cleanup;
pub(crate) mod deletion;
pub(crate) mod session_job;
pub(crate) mod snapshot;
pub(crate) mod snapshots;
pub(crate) mod state;
mod task_managers;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use thalweg_crds::{ClusterStatus, JobState};
use thalweg_proto::cluster::v1::{ClusterSnapshot, JobStatus};
use thalweg_proto::control::v1::FailureClass;

use crate::cluster::{Cluster, ClusterKind};
use crate::observe::{Facts, PodFacts};
use state::{Hold, RestoreSource, StatePlan, Transition};
use task_managers::{OVERDUE, TaskManagerPlan, force_if_overdue, sooner};

/// A pod that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodDeletion {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Without grace: it should have gone long ago.
    pub(crate) force: bool,
    pub(crate) reason: &'static str,
}

/// What the resource is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Run,
    Suspended,
    Ended,
    /// The old job stays until its savepoint is there.
    Stopping,
}

/// What becomes of the JobManager's Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobManagerAction {
    /// It is as it should be, or there is none and should be none.
    Keep,
    /// Make it, or replace it.
    Apply,
    /// Another number of standbys.
    Scale,
    /// Delete it.
    Delete,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) goal: Goal,
    pub(crate) job_manager: JobManagerAction,
    /// Of the JobManager that runs or is about to; none without one.
    pub(crate) operation_id: Option<String>,
    pub(crate) job_manager_hash: String,
    pub(crate) task_manager_hash: String,
    /// Slots that the jobs need, as far as known.
    pub(crate) slots_required: u32,
    pub(crate) task_managers: u32,
    /// Ordinals of TaskManagers to make.
    pub(crate) create: Vec<u32>,
    pub(crate) delete: Vec<PodDeletion>,
    /// When time alone may change the decision.
    pub(crate) recheck_after: Option<Duration>,
    /// What becomes of the job's state.
    pub(crate) state: StatePlan,
}

impl Plan {
    /// Whether the old job is about to end with a savepoint; not if that failed.
    pub(crate) fn stops(&self) -> bool {
        self.state
            .hold
            .as_ref()
            .is_some_and(|hold| hold.failure().is_none())
    }
}

/// A savepoint whose end wasn't pushed is asked about again.
const STOP_RECHECK: Duration = Duration::from_secs(10);

/// Decides.
pub(crate) fn plan(cluster: &Cluster, status: &ClusterStatus, facts: &Facts, now: Timestamp) -> Plan {
    let job_manager_hash = cluster.job_manager_hash();
    let snapshot = facts.view.as_ref().and_then(|view| view.snapshot.as_deref());
    match state::decide(cluster, status, facts, snapshot, &job_manager_hash) {
        Transition::Hold(hold) => stopping(cluster, status, facts, hold, now),
        Transition::Current { restore } => {
            let operation_id = operation_id(cluster, status, facts, &job_manager_hash);
            let state = StatePlan {
                restore,
                ..StatePlan::default()
            };
            converging(cluster, status, facts, state, operation_id, now)
        }
        Transition::Next { source, note } => next_start(cluster, status, facts, source, note, now),
    }
}

/// What was stopped, if anything was, goes; the next start takes its state.
fn next_start(
    cluster: &Cluster,
    status: &ClusterStatus,
    facts: &Facts,
    source: Option<RestoreSource>,
    note: Option<String>,
    now: Timestamp,
) -> Plan {
    let job_manager_hash = cluster.job_manager_hash();
    // A stopped JobManager of the very same spec: to be replaced it has to go first.
    let same = facts
        .deployment
        .as_ref()
        .is_some_and(|found| found.hash == job_manager_hash && !found.deleting);
    if cluster.suspended() || same {
        let state = StatePlan {
            upgrade: source,
            note,
            ..StatePlan::default()
        };
        let mut plan = converging(cluster, status, facts, state, None, now);
        if same {
            plan.job_manager = JobManagerAction::Delete;
        }
        return plan;
    }
    let restore = match &cluster.job {
        Some(job) => state::taken(job, &status.recovery, source),
        None => None,
    };
    let state = StatePlan {
        restore,
        note,
        redeploy_nonce: cluster.job.as_ref().and_then(|job| job.savepoint_redeploy_nonce),
        ..StatePlan::default()
    };
    let operation_id = Some(format!("{}-{}", cluster.uid, cluster.generation));
    converging(cluster, status, facts, state, operation_id, now)
}

/// The old job stays as it is: TaskManagers of any spec are its own, and one that is lost is replaced.
fn stopping(cluster: &Cluster, status: &ClusterStatus, facts: &Facts, hold: Hold, now: Timestamp) -> Plan {
    let snapshot = facts.view.as_ref().and_then(|view| view.snapshot.as_deref());
    let deployed = facts
        .deployment
        .as_ref()
        .filter(|deployment| !deployment.deleting);
    let operation_id = deployed
        .and_then(|deployment| deployment.operation_id.clone())
        .or_else(|| status.operation_id.clone());
    let slots_required = slots_required(cluster, snapshot, operation_id.as_deref());
    let task_manager_hash = cluster.task_manager_hash();
    let as_wanted = |pod: &PodFacts| PodFacts {
        hash: task_manager_hash.clone(),
        ..pod.clone()
    };
    let pods: Vec<PodFacts> = facts.task_managers.iter().map(as_wanted).collect();
    let alive = pods.iter().filter(|pod| pod.alive()).count();
    let wanted = cluster
        .task_managers_for(slots_required)
        .max(u32::try_from(alive).unwrap_or(u32::MAX));
    let pods = task_managers::plan(&pods, snapshot, &task_manager_hash, wanted, false, now);
    let mut recheck_after = pods.recheck_after;
    sooner(&mut recheck_after, STOP_RECHECK);
    Plan {
        goal: Goal::Stopping,
        job_manager: JobManagerAction::Keep,
        operation_id,
        job_manager_hash: deployed
            .map(|deployment| deployment.hash.clone())
            .or_else(|| status.job_manager_hash.clone())
            .unwrap_or_default(),
        task_manager_hash,
        slots_required,
        task_managers: wanted,
        create: pods.create,
        delete: pods.delete,
        recheck_after,
        state: StatePlan {
            restore: state::recorded_restore(&status.recovery),
            hold: Some(hold),
            ..StatePlan::default()
        },
    }
}

/// As the spec says.
fn converging(
    cluster: &Cluster,
    status: &ClusterStatus,
    facts: &Facts,
    state: StatePlan,
    operation_id: Option<String>,
    now: Timestamp,
) -> Plan {
    let job_manager_hash = cluster.job_manager_hash();
    let snapshot = facts.view.as_ref().and_then(|view| view.snapshot.as_deref());
    let goal = goal(cluster, status, snapshot, operation_id.as_deref());
    let mut job_manager = job_manager(
        cluster,
        goal,
        status,
        facts,
        snapshot,
        operation_id.as_deref(),
        &job_manager_hash,
    );
    let slots_required = slots_required(cluster, snapshot, operation_id.as_deref());
    let wanted = match goal {
        Goal::Run if application_failed(snapshot) => 0,
        Goal::Run => cluster
            .task_manager_replicas
            .unwrap_or_else(|| cluster.task_managers_for(slots_required).max(1)),
        Goal::Suspended | Goal::Ended | Goal::Stopping => 0,
    };
    let task_manager_hash = cluster.task_manager_hash();
    let fixed = cluster.task_manager_replicas.is_some() || wanted == 0;
    let mut pods = task_managers::plan(
        &facts.task_managers,
        snapshot,
        &task_manager_hash,
        wanted,
        fixed,
        now,
    );
    if job_manager == JobManagerAction::Apply
        && state.restore.is_some()
        && await_old_job_manager(facts, &mut pods, now)
    {
        job_manager = JobManagerAction::Keep;
        pods.create.clear();
    }
    Plan {
        goal,
        job_manager,
        operation_id: if goal == Goal::Suspended {
            None
        } else {
            operation_id
        },
        job_manager_hash,
        task_manager_hash,
        slots_required,
        task_managers: wanted,
        create: pods.create,
        delete: pods.delete,
        recheck_after: pods.recheck_after,
        state,
    }
}

/// Whether a JobManager whose Deployment is gone may still run: it could write to the state that the next one reads. A
/// Deployment that is there sees to that itself, it recreates.
fn await_old_job_manager(facts: &Facts, pods: &mut TaskManagerPlan, now: Timestamp) -> bool {
    let left = facts.job_managers.iter().filter(|pod| !pod.ended);
    if facts.deployment.is_some() {
        return false;
    }
    let mut waits = false;
    for pod in left {
        waits = true;
        match pod.deletion {
            Some(deadline) => {
                force_if_overdue(pod, deadline, now, &mut pods.delete, &mut pods.recheck_after);
            }
            None => sooner(&mut pods.recheck_after, OVERDUE),
        }
    }
    waits
}

/// The running JobManager's own, if it is of this hash; the recorded one, if it was meant for this hash (written and
/// not yet acted on, or its Deployment was lost); else a new one.
fn operation_id(cluster: &Cluster, status: &ClusterStatus, facts: &Facts, hash: &str) -> Option<String> {
    let deployed = facts
        .deployment
        .as_ref()
        .filter(|deployment| deployment.hash == hash && !deployment.deleting);
    if let Some(id) = deployed.and_then(|deployment| deployment.operation_id.clone()) {
        return Some(id);
    }
    let recorded = status
        .operation_id
        .clone()
        .filter(|_| status.job_manager_hash.as_deref() == Some(hash));
    recorded.or_else(|| Some(format!("{}-{}", cluster.uid, cluster.generation)))
}

fn goal(
    cluster: &Cluster,
    status: &ClusterStatus,
    snapshot: Option<&ClusterSnapshot>,
    operation_id: Option<&str>,
) -> Goal {
    if cluster.suspended() {
        return Goal::Suspended;
    }
    let ended = end_recorded(status, operation_id) || job_of(snapshot, operation_id).is_some_and(is_terminal);
    if cluster.kind == ClusterKind::Application && ended {
        Goal::Ended
    } else {
        Goal::Run
    }
}

/// Whether status says that the job of this operation has ended. An application that never became a job (its
/// package is missing) has no id and may still run.
pub(crate) fn end_recorded(status: &ClusterStatus, operation_id: Option<&str>) -> bool {
    let job = status.job_status.as_ref().filter(|job| job.job_id.is_some());
    let terminal = job.and_then(|job| job.state).is_some_and(JobState::is_terminal);
    terminal && operation_id.is_some() && status.operation_id.as_deref() == operation_id
}

fn is_terminal(job: &JobStatus) -> bool {
    JobState::parse(&job.state).is_some_and(JobState::is_terminal)
}

/// The job that an operation started.
pub(crate) fn job_of<'a>(
    snapshot: Option<&'a ClusterSnapshot>,
    operation_id: Option<&str>,
) -> Option<&'a JobStatus> {
    let operation_id = operation_id?;
    snapshot?.jobs.iter().find(|job| job.operation_id == operation_id)
}

/// An application that can't become a job as it is.
pub(crate) fn application_failed(snapshot: Option<&ClusterSnapshot>) -> bool {
    let failure = snapshot.and_then(|snapshot| snapshot.application_failure.as_ref());
    failure.is_some_and(|failure| failure.class() != FailureClass::Retryable)
}

fn job_manager(
    cluster: &Cluster,
    goal: Goal,
    status: &ClusterStatus,
    facts: &Facts,
    snapshot: Option<&ClusterSnapshot>,
    operation_id: Option<&str>,
    hash: &str,
) -> JobManagerAction {
    let deployed = facts.deployment.as_ref();
    let present = deployed.is_some_and(|deployment| !deployment.deleting);
    match goal {
        Goal::Suspended if present => JobManagerAction::Delete,
        Goal::Suspended | Goal::Stopping => JobManagerAction::Keep,
        // A JobManager that lost its memory (its node went) would run the finished job again.
        Goal::Ended
            if present
                && end_recorded(status, operation_id)
                && job_of(snapshot, operation_id).is_some_and(|job| !is_terminal(job)) =>
        {
            JobManagerAction::Delete
        }
        Goal::Ended => JobManagerAction::Keep,
        // One that is going is waited for: its deletion triggers the next reconciliation.
        Goal::Run if deployed.is_some_and(|deployment| deployment.deleting) => JobManagerAction::Keep,
        Goal::Run if deployed.is_some_and(|deployment| deployment.hash == hash) => {
            let replicas = deployed.map(|deployment| deployment.replicas);
            if replicas == Some(cluster.job_manager_replicas) {
                JobManagerAction::Keep
            } else {
                JobManagerAction::Scale
            }
        }
        Goal::Run => JobManagerAction::Apply,
    }
}

/// From the JobManager as soon as it knows its jobs' graphs, until then from the parallelism.
fn slots_required(cluster: &Cluster, snapshot: Option<&ClusterSnapshot>, operation_id: Option<&str>) -> u32 {
    match cluster.kind {
        ClusterKind::Application => match job_of(snapshot, operation_id) {
            Some(job) if job.slots_required > 0 => job.slots_required,
            _ => cluster.parallelism(),
        },
        ClusterKind::Session => {
            let jobs = snapshot
                .map(|snapshot| snapshot.jobs.as_slice())
                .unwrap_or_default();
            jobs.iter()
                .filter(|job| !is_terminal(job))
                .fold(0, |sum, job| sum.saturating_add(job.slots_required))
        }
    }
}
