//! What is wrong, by the nearest cause that is known.

use thalweg_crds::JobState;
use thalweg_proto::cluster::v1::JobStatus;

use crate::cluster::{Cluster, ClusterKind};
use crate::observe::{Facts, PodFacts, PodProblem};
use crate::plan::state::Hold;
use crate::plan::{Goal, Plan, application_failed, job_of};

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// CamelCase: the conditions' and the event's reason.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Nothing but a change of the spec helps.
    pub(crate) fatal: bool,
}

impl Problem {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            fatal: false,
        }
    }

    pub(crate) fn fatal(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            fatal: true,
            ..Self::new(reason, message)
        }
    }

    pub(crate) fn passing(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(reason, message)
    }
}

/// From the root outward: the application, the JobManager's pod, the job, the TaskManagers' pods.
pub(super) fn of_cluster(
    cluster: &Cluster,
    plan: &Plan,
    facts: &Facts,
    state: Option<JobState>,
) -> Option<Problem> {
    if plan.goal == Goal::Suspended {
        return None;
    }
    if let Some(problem) = plan.state.hold.as_ref().and_then(of_hold) {
        return Some(problem);
    }
    let snapshot = facts.view.as_ref().and_then(|view| view.snapshot.as_deref());
    if let Some(failure) = snapshot.and_then(|snapshot| snapshot.application_failure.as_ref()) {
        let make = if application_failed(snapshot) {
            Problem::fatal
        } else {
            Problem::passing
        };
        return Some(make("ApplicationFailed", &failure.message));
    }
    if let Some(problem) = of_job_manager(facts) {
        return Some(problem);
    }
    let job = job_of(snapshot, plan.operation_id.as_deref());
    match cluster.kind {
        ClusterKind::Application => of_job(job, state)
            .map(|problem| with_pods(problem, facts, plan))
            .or_else(|| of_waiting(job, state, facts, plan)),
        ClusterKind::Session => of_task_managers(facts, plan).map(from_pod),
    }
}

/// Why a job can't be stopped with a savepoint.
pub(super) fn of_hold(hold: &Hold) -> Option<Problem> {
    match hold {
        Hold::Failed { reason, .. } => Some(Problem::fatal(
            "SavepointFailed",
            format!(
                "the job could not be stopped with a savepoint and stays as it was; it is tried again when the spec \
                 changes: {reason}"
            ),
        )),
        Hold::Unanswered { .. } => Some(Problem::passing(
            "JobManagerUnreachable",
            "the job's state can't be kept yet: its JobManager runs and does not answer; it is waited for \
             (spec.job.upgradeMode stateless gives the state up)",
        )),
        Hold::Trigger { .. } | Hold::UnderWay { .. } => None,
    }
}

fn from_pod(problem: PodProblem) -> Problem {
    Problem::passing(problem.reason, problem.message)
}

fn of_job_manager(facts: &Facts) -> Option<Problem> {
    let deployment = facts
        .deployment
        .as_ref()
        .filter(|deployment| !deployment.deleting)?;
    let pod = facts
        .current_job_manager()
        .and_then(|pod| pod.problem.clone())
        .map(from_pod);
    let quota = deployment
        .problem
        .as_ref()
        .filter(|_| facts.current_job_manager().is_none());
    pod.or_else(|| {
        quota.map(|message| Problem::passing("FailedCreate", format!("the JobManager's pod: {message}")))
    })
}

/// A job's failure, also while it restarts.
pub(super) fn of_job(job: Option<&JobStatus>, state: Option<JobState>) -> Option<Problem> {
    let failure = job.and_then(|job| job.last_failure.as_ref());
    let message = failure
        .map(|failure| failure.message.as_str())
        .filter(|message| !message.is_empty());
    match state? {
        JobState::Failed => Some(Problem::fatal(
            "JobFailed",
            message.unwrap_or("the job has failed"),
        )),
        JobState::Restarting | JobState::Failing => Some(Problem::passing(
            "JobRestarting",
            message.unwrap_or("the job restarts"),
        )),
        _ => None,
    }
}

/// A restarting job's message gains the reason why its TaskManagers don't run.
fn with_pods(problem: Problem, facts: &Facts, plan: &Plan) -> Problem {
    match of_task_managers(facts, plan) {
        Some(pod) if !problem.fatal => Problem {
            message: format!("{}; {}", problem.message, pod.message),
            ..problem
        },
        _ => problem,
    }
}

/// Too few slots, and why.
fn of_waiting(
    job: Option<&JobStatus>,
    state: Option<JobState>,
    facts: &Facts,
    plan: &Plan,
) -> Option<Problem> {
    if state.is_some_and(|state| state == JobState::Running || state.is_terminal()) {
        return None;
    }
    let pods = of_task_managers(facts, plan);
    match (waiting(job), pods) {
        (Some(waiting), Some(pod)) => Some(Problem::passing(
            pod.reason,
            format!("{waiting}; {}", pod.message),
        )),
        // TaskManagers that are on their way are no problem yet.
        (Some(waiting), None) if all_ready(facts, plan) => Some(Problem::passing("NoSlots", waiting)),
        (Some(_) | None, None) => None,
        (None, Some(pod)) => Some(from_pod(pod)),
    }
}

/// What a job waits for.
pub(super) fn waiting(job: Option<&JobStatus>) -> Option<&str> {
    job.map(|job| job.waiting_for.as_str())
        .filter(|text| !text.is_empty())
}

fn all_ready(facts: &Facts, plan: &Plan) -> bool {
    let ready = facts
        .task_managers
        .iter()
        .filter(|pod| pod.ready && current(pod, plan))
        .count();
    ready >= usize::try_from(plan.task_managers).unwrap_or(usize::MAX)
}

fn current(pod: &PodFacts, plan: &Plan) -> bool {
    pod.alive() && pod.hash == plan.task_manager_hash
}

fn of_task_managers(facts: &Facts, plan: &Plan) -> Option<PodProblem> {
    let ours = facts
        .task_managers
        .iter()
        .filter(|pod| pod.deletion.is_none() && pod.hash == plan.task_manager_hash);
    ours.into_iter().find_map(|pod| pod.problem.clone())
}
