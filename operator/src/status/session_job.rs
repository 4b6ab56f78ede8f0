//! The status of a FlinkSessionJob.

use k8s_openapi::jiff::Timestamp;
use thalweg_crds::{
    JobSlotStatus, JobState, JobStatus, LifecycleState, RequestedSnapshots, SavepointInfo, SessionJobStatus,
};
use thalweg_proto::cluster::v1::JobStatus as PushedJob;

use crate::plan::state::StatePlan;

use super::conditions::{Judgement, assemble};
use super::{Problem, job, problem, to_i32};

/// What the reconciler knows after a pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known<'a> {
    /// The job as pushed, if the session knows it.
    pub(crate) pushed: Option<&'a PushedJob>,
    /// What the job is otherwise: recorded, or implied by the step just taken.
    pub(crate) job: JobStatus,
    pub(crate) operation_id: Option<String>,
    pub(crate) job_hash: Option<String>,
    pub(crate) state: StatePlan,
    /// What the operator has asked for by FlinkStateSnapshots; none: as recorded.
    pub(crate) snapshots: Option<RequestedSnapshots>,
    /// The newest savepoint; none: as recorded.
    pub(crate) savepoint_info: Option<SavepointInfo>,
    pub(crate) suspended: bool,
    pub(crate) upgrading: bool,
    /// A problem that the pass itself met.
    pub(crate) problem: Option<Problem>,
}

/// The status after a pass.
pub(crate) fn session_job_status(
    known: &Known<'_>,
    previous: &SessionJobStatus,
    generation: i64,
    now: Timestamp,
) -> SessionJobStatus {
    let job_status = with_state(
        known.pushed.map_or_else(|| known.job.clone(), job::pushed),
        known,
        previous,
    );
    let state = job_status.state;
    let started = job_status.job_id.is_some();
    let hold = known.state.hold.as_ref();
    let problem = known
        .problem
        .clone()
        .or_else(|| hold.and_then(problem::of_hold))
        .or_else(|| recorded_failure(&job_status))
        .or_else(|| problem::of_job(known.pushed, state))
        .or_else(|| problem::waiting(known.pushed).map(|text| Problem::passing("NoSlots", text)));
    let lifecycle = lifecycle(known, state);
    let judgement = match hold {
        Some(hold) if hold.failure().is_none() => Judgement::stopping(),
        _ => Judgement::of_job(lifecycle, state),
    };
    let judgement = judgement.with_problem(problem.as_ref());
    SessionJobStatus {
        observed_generation: Some(generation),
        lifecycle_state: Some(lifecycle),
        slots: known.pushed.map(|job| JobSlotStatus {
            required: to_i32(job.slots_required),
            held: to_i32(job.slots_held),
        }),
        operation_id: known.operation_id.clone(),
        job_hash: known.job_hash.clone(),
        recovery: known.state.recovery(&previous.recovery, started),
        snapshots: known.snapshots.clone().or_else(|| previous.snapshots.clone()),
        error: problem.map(|problem| problem.message),
        conditions: assemble(&judgement, &previous.conditions, generation, now),
        job_status: Some(job_status),
    }
}

/// A checkpoint counts for the submission that took it.
fn with_state(job: JobStatus, known: &Known<'_>, previous: &SessionJobStatus) -> JobStatus {
    let same = known.operation_id.is_some() && previous.operation_id == known.operation_id;
    let before = previous.job_status.as_ref().filter(|_| same);
    JobStatus {
        upgrade_savepoint_path: known.state.upgrade.as_ref().map(|source| source.path.clone()),
        checkpoint: job
            .checkpoint
            .filter(|_| known.operation_id.is_some())
            .or_else(|| before.and_then(|before| before.checkpoint.clone())),
        savepoint_info: known.savepoint_info.clone().or_else(|| {
            let recorded = previous.job_status.as_ref()?;
            recorded.savepoint_info.clone()
        }),
        ..job
    }
}

/// A submission that was refused left its reason in the job's record.
fn recorded_failure(job: &JobStatus) -> Option<Problem> {
    let message = job
        .last_failure
        .as_deref()
        .filter(|_| job.state == Some(JobState::Failed))?;
    Some(Problem::fatal("JobFailed", message))
}

fn lifecycle(known: &Known<'_>, state: Option<JobState>) -> LifecycleState {
    if known.problem.as_ref().is_some_and(|problem| problem.fatal) && known.operation_id.is_none() {
        return LifecycleState::Failed;
    }
    match state {
        _ if known.upgrading => LifecycleState::Upgrading,
        Some(JobState::Failed) => LifecycleState::Failed,
        Some(JobState::Finished | JobState::Running) => LifecycleState::Stable,
        Some(JobState::Canceled | JobState::Suspended) => LifecycleState::Suspended,
        _ if known.suspended => LifecycleState::Suspended,
        _ if known.operation_id.is_some() => LifecycleState::Deployed,
        _ => LifecycleState::Created,
    }
}

/// The status of a resource on its way out.
pub(crate) fn session_job_deleting(
    previous: &SessionJobStatus,
    generation: i64,
    now: Timestamp,
) -> SessionJobStatus {
    SessionJobStatus {
        observed_generation: Some(generation),
        lifecycle_state: Some(LifecycleState::Deleting),
        conditions: assemble(&Judgement::deleting(), &previous.conditions, generation, now),
        ..previous.clone()
    }
}
