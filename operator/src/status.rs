//! The status that follows from a plan and the facts: pure.
//!
//! ```text
//!   Cluster, Plan, Facts, status so far --> job, slots, problem --> lifecycle state --> conditions
//! ```
//! Invariants: the recorded end of a job stays; a condition's transition time changes only with its status; `error`
//! is the nearest cause that is known, and absent when all is well.

pub(crate) mod conditions;
pub(crate) mod job;
mod problem;
pub(crate) mod savepoints;
pub(crate) mod session_job;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

use k8s_openapi::jiff::Timestamp;
use thalweg_crds::{
    ClusterStatus, JobManagerDeploymentStatus, JobManagerStatus, JobState, JobStatus, LifecycleState,
    SlotStatus, TaskManagerStatus,
};

pub(crate) use problem::Problem;

use crate::cluster::{Cluster, ClusterKind};
use crate::names;
use crate::observe::Facts;
use crate::plan::{Goal, JobManagerAction, Plan};
use conditions::{Judgement, assemble};

/// The status of an application or session.
pub(crate) fn cluster_status(
    cluster: &Cluster,
    plan: &Plan,
    facts: &Facts,
    previous: &ClusterStatus,
    now: Timestamp,
) -> ClusterStatus {
    let job_status =
        (cluster.kind == ClusterKind::Application).then(|| job::application(plan, facts, previous));
    let state = job_status.as_ref().and_then(|job| job.state);
    let started = job_status.as_ref().is_some_and(|job| job.job_id.is_some());
    let problem = problem::of_cluster(cluster, plan, facts, state);
    let deployment_status = deployment_status(plan, facts);
    let lifecycle = lifecycle(cluster, plan, facts, previous, state);
    let judgement = judge(cluster, plan, facts, lifecycle, state, problem.as_ref());
    let snapshot = facts.view.as_ref().and_then(|view| view.snapshot.as_deref());
    ClusterStatus {
        observed_generation: Some(cluster.generation),
        lifecycle_state: Some(lifecycle),
        job_status,
        job_manager_deployment_status: Some(deployment_status),
        job_manager: job_manager_status(plan, facts, previous),
        task_manager: Some(TaskManagerStatus {
            label_selector: names::task_manager_selector(cluster.kind, &cluster.name),
            replicas: count(facts.task_managers.iter().filter(|pod| pod.alive()).count()),
        }),
        slots: Some(SlotStatus {
            required: if matches!(plan.goal, Goal::Run | Goal::Stopping) {
                to_i32(plan.slots_required)
            } else {
                0
            },
            total: snapshot.map_or(0, |snapshot| to_i32(snapshot.slots_total)),
            available: snapshot.map_or(0, |snapshot| to_i32(snapshot.slots_free)),
        }),
        image: Some(cluster.image.clone()),
        image_pinned: Some(cluster.image_pinned),
        operation_id: plan.operation_id.clone(),
        job_manager_hash: plan.operation_id.as_ref().map(|_| plan.job_manager_hash.clone()),
        recovery: plan.state.recovery(&previous.recovery, started),
        snapshots: previous.snapshots.clone(),
        error: problem.map(|problem| problem.message),
        conditions: assemble(&judgement, &previous.conditions, cluster.generation, now),
    }
}

/// What can't be decided again once it is acted on: a new JobManager's operation id and what it restores from, the id of a
/// stop with savepoint, what the job left. None: it is all recorded.
pub(crate) fn cluster_intent(
    cluster: &Cluster,
    plan: &Plan,
    before: &ClusterStatus,
) -> Option<ClusterStatus> {
    let recovery = plan.state.recovery(&before.recovery, false);
    let upgrade = plan.state.upgrade.as_ref().map(|source| source.path.clone());
    let job = before.job_status.as_ref();
    let left = job.and_then(|job| job.upgrade_savepoint_path.clone()) != upgrade;
    let due = match plan.job_manager {
        JobManagerAction::Apply => {
            before.operation_id != plan.operation_id || before.recovery.restore_path != recovery.restore_path
        }
        JobManagerAction::Delete => left,
        JobManagerAction::Keep | JobManagerAction::Scale => {
            let stop = recovery.savepoint_operation_id.as_ref();
            stop.is_some() && before.recovery.savepoint_operation_id.as_ref() != stop
        }
    };
    if !due {
        return None;
    }
    let same = before.operation_id == plan.operation_id;
    let job_status = job.map(|job| JobStatus {
        upgrade_savepoint_path: upgrade.clone(),
        checkpoint: job.checkpoint.clone().filter(|_| same),
        ..job.clone()
    });
    Some(ClusterStatus {
        operation_id: plan.operation_id.clone(),
        job_manager_hash: plan.operation_id.as_ref().map(|_| plan.job_manager_hash.clone()),
        recovery,
        job_status: job_status.or_else(|| {
            upgrade.map(|path| JobStatus {
                upgrade_savepoint_path: Some(path),
                ..JobStatus::default()
            })
        }),
        image: Some(cluster.image.clone()),
        image_pinned: Some(cluster.image_pinned),
        lifecycle_state: Some(match before.lifecycle_state {
            None | Some(LifecycleState::Created) => LifecycleState::Created,
            Some(_) => LifecycleState::Upgrading,
        }),
        ..before.clone()
    })
}

/// The status of a resource that can't be reconciled: invalid, or the API server refused something. What runs is left
/// as it is, so what was known of it stays.
pub(crate) fn cluster_failure(
    previous: &ClusterStatus,
    generation: i64,
    problem: &Problem,
    now: Timestamp,
) -> ClusterStatus {
    let deployed = previous.operation_id.is_some();
    let lifecycle = match previous.lifecycle_state {
        Some(state) if deployed => state,
        Some(LifecycleState::Suspended) => LifecycleState::Suspended,
        _ if problem.fatal => LifecycleState::Failed,
        Some(state) => state,
        None => LifecycleState::Created,
    };
    let judgement = Judgement::failed(lifecycle, problem, &previous.conditions);
    ClusterStatus {
        observed_generation: Some(generation),
        lifecycle_state: Some(lifecycle),
        error: Some(problem.message.clone()),
        conditions: assemble(&judgement, &previous.conditions, generation, now),
        ..previous.clone()
    }
}

/// The status of a resource on its way out.
pub(crate) fn cluster_deleting(previous: &ClusterStatus, generation: i64, now: Timestamp) -> ClusterStatus {
    ClusterStatus {
        observed_generation: Some(generation),
        lifecycle_state: Some(LifecycleState::Deleting),
        conditions: assemble(&Judgement::deleting(), &previous.conditions, generation, now),
        ..previous.clone()
    }
}

pub(super) fn to_i32(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn deployment_status(plan: &Plan, facts: &Facts) -> JobManagerDeploymentStatus {
    use JobManagerDeploymentStatus as Status;
    let Some(deployment) = facts
        .deployment
        .as_ref()
        .filter(|deployment| !deployment.deleting)
    else {
        let coming = plan.job_manager == JobManagerAction::Apply;
        return if coming {
            Status::Deploying
        } else {
            Status::Missing
        };
    };
    let pod = facts.current_job_manager();
    if deployment.problem.is_some() || pod.is_some_and(|pod| pod.problem.is_some()) {
        return Status::Error;
    }
    match pod {
        Some(pod) if pod.ready => Status::Ready,
        Some(pod) if pod.running => Status::DeployedNotReady,
        _ => Status::Deploying,
    }
}

/// The leader that was heard last, as long as the same start of the JobManagers is meant.
fn job_manager_status(plan: &Plan, facts: &Facts, previous: &ClusterStatus) -> Option<JobManagerStatus> {
    let deployed = facts.deployment.as_ref()?;
    if !deployed.high_availability {
        return None;
    }
    let same = previous.operation_id == plan.operation_id;
    let recorded = previous.job_manager.clone().filter(|_| same).unwrap_or_default();
    let leader = facts.view.as_ref().and_then(|view| view.leader.as_ref());
    Some(JobManagerStatus {
        replicas: count(facts.job_managers.iter().filter(|pod| pod.alive()).count()),
        leader: leader.map(|leader| leader.pod.clone()).or(recorded.leader),
        epoch: leader
            .map(|leader| i64::try_from(leader.epoch).unwrap_or(i64::MAX))
            .or(recorded.epoch),
    })
}

/// Whether the JobManager of this plan answers.
fn connected(plan: &Plan, facts: &Facts) -> bool {
    let current = facts
        .deployment
        .as_ref()
        .is_some_and(|found| found.hash == plan.job_manager_hash);
    current && facts.view.as_ref().is_some_and(|view| view.snapshot.is_some())
}

fn lifecycle(
    cluster: &Cluster,
    plan: &Plan,
    facts: &Facts,
    previous: &ClusterStatus,
    state: Option<JobState>,
) -> LifecycleState {
    if plan.goal == Goal::Suspended {
        return LifecycleState::Suspended;
    }
    if plan.stops() {
        return LifecycleState::Upgrading;
    }
    match state {
        Some(JobState::Failed) => return LifecycleState::Failed,
        Some(JobState::Finished | JobState::Running) => return LifecycleState::Stable,
        Some(JobState::Canceled) => return LifecycleState::Suspended,
        _ => {}
    }
    if connected(plan, facts) {
        let session = cluster.kind == ClusterKind::Session;
        return if session {
            LifecycleState::Stable
        } else {
            LifecycleState::Deployed
        };
    }
    // A first start has no operation before its own; a job that restarts keeps what it was.
    let same = previous.operation_id == plan.operation_id;
    match previous.lifecycle_state {
        None | Some(LifecycleState::Created) => LifecycleState::Created,
        Some(LifecycleState::Failed) if previous.operation_id.is_none() => LifecycleState::Created,
        Some(LifecycleState::Stable | LifecycleState::Deployed) if same => LifecycleState::Deployed,
        Some(_) => LifecycleState::Upgrading,
    }
}

fn judge(
    cluster: &Cluster,
    plan: &Plan,
    facts: &Facts,
    lifecycle: LifecycleState,
    state: Option<JobState>,
    problem: Option<&Problem>,
) -> Judgement {
    let mut judgement = match cluster.kind {
        ClusterKind::Application if plan.stops() => Judgement::stopping(),
        ClusterKind::Application => Judgement::of_job(lifecycle, state),
        ClusterKind::Session => Judgement::of_session(connected(plan, facts)),
    };
    if cluster.kind == ClusterKind::Session && connected(plan, facts) {
        let missing = plan.task_managers > count_ready(plan, facts);
        if missing {
            judgement.progressing = (
                true,
                "TaskManagersStarting",
                format!(
                    "{} of {} TaskManagers run",
                    count_ready(plan, facts),
                    plan.task_managers
                ),
            );
        }
    }
    judgement.with_problem(problem)
}

fn count_ready(plan: &Plan, facts: &Facts) -> u32 {
    let ready = facts
        .task_managers
        .iter()
        .filter(|pod| pod.alive() && pod.ready && pod.hash == plan.task_manager_hash);
    u32::try_from(ready.count()).unwrap_or(u32::MAX)
}
