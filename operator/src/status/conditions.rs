//! The three conditions of every kind: `Ready`, `Progressing`, `Degraded`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use thalweg_crds::{JobState, LifecycleState, SnapshotState};

use super::Problem;

/// One condition's status, reason and message.
pub(crate) type Verdict = (bool, &'static str, String);

/// What the three conditions say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) ready: Verdict,
    pub(crate) progressing: Verdict,
    pub(crate) degraded: Verdict,
}

const NOTHING_WRONG: (bool, &str) = (false, "AsExpected");

fn verdict(status: bool, reason: &'static str, message: impl Into<String>) -> Verdict {
    (status, reason, message.into())
}

impl Judgement {
    fn new(ready: Verdict, progressing: Verdict) -> Self {
        Self {
            ready,
            progressing,
            degraded: verdict(NOTHING_WRONG.0, NOTHING_WRONG.1, ""),
        }
    }

    /// Of a resource with one job.
    pub(crate) fn of_job(lifecycle: LifecycleState, state: Option<JobState>) -> Self {
        let still = |reason| verdict(false, reason, "");
        match (lifecycle, state) {
            (LifecycleState::Deleting, _) => Self::deleting(),
            (_, Some(JobState::Running)) => Self::new(
                verdict(true, "JobRunning", "the job is RUNNING"),
                still("JobRunning"),
            ),
            (_, Some(JobState::Finished)) => Self::new(
                verdict(true, "JobFinished", "the job has FINISHED"),
                still("JobFinished"),
            ),
            (_, Some(JobState::Failed)) => Self::new(
                verdict(false, "JobFailed", "the job has FAILED"),
                still("JobFailed"),
            ),
            (_, Some(JobState::Canceled)) => Self::new(
                verdict(false, "JobCanceled", "the job was CANCELED"),
                still("JobCanceled"),
            ),
            (LifecycleState::Suspended, _) => Self::new(
                verdict(false, "Suspended", "spec.job.state is suspended"),
                still("Suspended"),
            ),
            (_, state) => {
                let state = state.unwrap_or(JobState::Reconciling);
                let message = format!("the job is {state}");
                Self::new(
                    verdict(false, "JobNotRunning", message.clone()),
                    verdict(true, "JobStarting", message),
                )
            }
        }
    }

    /// Of a job that is being stopped with a savepoint.
    pub(crate) fn stopping() -> Self {
        let message = "the job is being stopped with a savepoint";
        Self::new(
            verdict(false, "SavepointInProgress", message),
            verdict(true, "SavepointInProgress", message),
        )
    }

    /// Of a session.
    pub(crate) fn of_session(connected: bool) -> Self {
        if connected {
            Self::new(
                verdict(true, "JobManagerReady", "the JobManager answers"),
                verdict(false, "AsExpected", ""),
            )
        } else {
            let message = "the JobManager does not answer yet";
            Self::new(
                verdict(false, "JobManagerNotReady", message),
                verdict(true, "JobManagerStarting", message),
            )
        }
    }

    /// Of a snapshot; `message`: what it waits for, or why it never will be there.
    pub(crate) fn of_snapshot(state: SnapshotState, message: &str, error: Option<&str>) -> Self {
        let reason = match state {
            SnapshotState::TriggerPending => "TriggerPending",
            SnapshotState::InProgress => "InProgress",
            SnapshotState::Completed => "Completed",
            SnapshotState::Failed => "Failed",
            SnapshotState::Abandoned => "Abandoned",
        };
        let mut judgement = Self::new(
            verdict(state == SnapshotState::Completed, reason, message),
            verdict(!state.is_terminal(), reason, message),
        );
        if let Some(error) = error {
            judgement.degraded = verdict(true, "SnapshotError", error);
        }
        judgement
    }

    /// Of a resource that is being deleted.
    pub(crate) fn deleting() -> Self {
        let message = "the resource is being deleted";
        Self::new(
            verdict(false, "Deleting", message),
            verdict(true, "Deleting", message),
        )
    }

    /// Of a resource that couldn't be reconciled: what it was ready for, it still is.
    pub(crate) fn failed(lifecycle: LifecycleState, problem: &Problem, previous: &[Condition]) -> Self {
        let was_ready = previous
            .iter()
            .find(|one| one.type_ == "Ready")
            .filter(|one| one.status == "True");
        let ready = match was_ready {
            Some(condition) if condition.reason == "JobFinished" => {
                verdict(true, "JobFinished", condition.message.clone())
            }
            Some(condition) if condition.reason == "JobRunning" => {
                verdict(true, "JobRunning", condition.message.clone())
            }
            Some(condition) => verdict(true, "JobManagerReady", condition.message.clone()),
            None => verdict(false, problem.reason, problem.message.clone()),
        };
        let retried = !problem.fatal && lifecycle != LifecycleState::Failed;
        Self::new(ready, verdict(retried, problem.reason, problem.message.clone()))
            .with_problem(Some(problem))
    }

    /// Adds what is wrong.
    pub(crate) fn with_problem(mut self, problem: Option<&Problem>) -> Self {
        if let Some(problem) = problem {
            self.degraded = verdict(true, problem.reason, problem.message.clone());
            if !self.ready.0 {
                self.ready = verdict(false, problem.reason, problem.message.clone());
            }
            if self.progressing.0 && problem.fatal {
                self.progressing = verdict(false, problem.reason, problem.message.clone());
            }
        }
        self
    }
}

/// The conditions as Kubernetes wants them; the time of a transition is kept while the status stays.
pub(crate) fn assemble(
    judgement: &Judgement,
    previous: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let all = [
        ("Ready", &judgement.ready),
        ("Progressing", &judgement.progressing),
        ("Degraded", &judgement.degraded),
    ];
    all.map(|(type_, (status, reason, message))| {
        let status = if *status { "True" } else { "False" };
        let before = previous
            .iter()
            .find(|one| one.type_ == type_ && one.status == status);
        // RFC 3339 with whole seconds, as Kubernetes writes it.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: (*reason).into(),
            message: shorten(message),
            observed_generation: Some(generation),
            last_transition_time: before.map_or(Time(now), |one| one.last_transition_time.clone()),
        }
    })
    .into()
}

/// A condition's message may have 32 KiB.
fn shorten(message: &str) -> String {
    message.chars().take(8192).collect()
}
