//! What to do next about a FlinkSessionJob: a pure decision.

use thalweg_crds::{JobState, SessionJobStatus};
use thalweg_proto::cluster::v1::{ClusterSnapshot, JobStatus};

use super::{is_terminal, job_of};

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobStep {
    /// It is as it should be.
    Nothing,
    /// The session's JobManager isn't there to ask.
    Wait,
    /// Submit under this id; the id is new if it isn't the recorded one.
    Submit { operation_id: String },
    /// End the job that runs: another is wanted, or none.
    Cancel { job_id: String },
    /// None is wanted and none runs.
    Rest,
}

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) uid: &'a str,
    pub(crate) generation: i64,
    pub(crate) suspended: bool,
    /// Hash of what is to be submitted.
    pub(crate) hash: &'a str,
}

/// Decides.
pub(crate) fn plan_session_job(
    wanted: &Wanted<'_>,
    status: &SessionJobStatus,
    snapshot: Option<&ClusterSnapshot>,
) -> JobStep {
    if snapshot.is_none() {
        // A job that has nothing to say to the session is done without it.
        return if wanted.suspended && status.operation_id.is_none() {
            JobStep::Rest
        } else {
            JobStep::Wait
        };
    }
    let current = status.job_hash.as_deref() == Some(wanted.hash);
    let pushed = job_of(snapshot, status.operation_id.as_deref());
    if let Some(job) = pushed.filter(|job| !is_terminal(job)) {
        return match wanted.suspended || !current {
            true if is_cancelling(job) => JobStep::Nothing,
            true => JobStep::Cancel {
                job_id: job.job_id.clone(),
            },
            false => JobStep::Nothing,
        };
    }
    if wanted.suspended {
        return JobStep::Rest;
    }
    match status.operation_id.as_ref().filter(|_| current) {
        // Ended, as the session says or as was recorded before the session forgot it.
        Some(_) if pushed.is_some() || end_recorded(status) => JobStep::Nothing,
        // Not submitted yet, or lost with a JobManager: the same id is one job.
        Some(id) => JobStep::Submit {
            operation_id: id.clone(),
        },
        None => JobStep::Submit {
            operation_id: format!("{}-{}", wanted.uid, wanted.generation),
        },
    }
}

fn is_cancelling(job: &JobStatus) -> bool {
    JobState::parse(&job.state) == Some(JobState::Cancelling)
}

fn end_recorded(status: &SessionJobStatus) -> bool {
    status
        .job_status
        .as_ref()
        .and_then(|job| job.state)
        .is_some_and(JobState::is_terminal)
}

#[cfg(test)]
mod tests {
    use thalweg_crds::JobStatus as RecordedJob;

    use super::*;
    use crate::testing::{pushed_job, snapshot};

    fn wanted(suspended: bool) -> Wanted<'static> {
        Wanted {
            uid: "uid",
            generation: 4,
            suspended,
            hash: "h",
        }
    }

    fn recorded(hash: &str, state: Option<JobState>) -> SessionJobStatus {
        SessionJobStatus {
            operation_id: Some("op".into()),
            job_hash: Some(hash.into()),
            job_status: Some(RecordedJob {
                state,
                ..RecordedJob::default()
            }),
            ..SessionJobStatus::default()
        }
    }

    fn decide(wanted: Wanted<'_>, status: &SessionJobStatus, jobs: Vec<JobStatus>) -> JobStep {
        plan_session_job(&wanted, status, Some(&snapshot(jobs)))
    }

    #[test]
    fn a_new_job_is_submitted_under_an_id_that_follows_from_the_resource() {
        let step = decide(wanted(false), &SessionJobStatus::default(), vec![]);
        assert_eq!(
            step,
            JobStep::Submit {
                operation_id: "uid-4".into()
            }
        );
    }

    #[test]
    fn a_submission_that_was_recorded_is_made_again_under_the_same_id() {
        let step = decide(wanted(false), &recorded("h", None), vec![]);
        assert_eq!(
            step,
            JobStep::Submit {
                operation_id: "op".into()
            }
        );
    }

    #[test]
    fn a_running_job_is_left_alone() {
        let running = vec![pushed_job("op", "RUNNING")];
        assert_eq!(
            decide(wanted(false), &recorded("h", None), running),
            JobStep::Nothing
        );
    }

    #[test]
    fn without_a_job_manager_there_is_nothing_to_decide() {
        assert_eq!(
            plan_session_job(&wanted(false), &recorded("h", None), None),
            JobStep::Wait
        );
        assert_eq!(
            plan_session_job(&wanted(true), &SessionJobStatus::default(), None),
            JobStep::Rest
        );
    }

    #[test]
    fn a_changed_job_is_cancelled_first_and_then_submitted_anew() {
        let status = recorded("old", None);
        let cancel = decide(wanted(false), &status, vec![pushed_job("op", "RUNNING")]);
        assert_eq!(
            cancel,
            JobStep::Cancel {
                job_id: "0123456789abcdef0123456789abcdef".into()
            }
        );
        assert_eq!(
            decide(wanted(false), &status, vec![pushed_job("op", "CANCELLING")]),
            JobStep::Nothing
        );
        let submit = decide(wanted(false), &status, vec![pushed_job("op", "CANCELED")]);
        assert_eq!(
            submit,
            JobStep::Submit {
                operation_id: "uid-4".into()
            }
        );
    }

    #[test]
    fn a_suspended_job_is_cancelled_and_rests() {
        let running = vec![pushed_job("op", "RUNNING")];
        assert!(matches!(
            decide(wanted(true), &recorded("h", None), running),
            JobStep::Cancel { .. }
        ));
        assert_eq!(
            decide(
                wanted(true),
                &recorded("h", None),
                vec![pushed_job("op", "CANCELED")]
            ),
            JobStep::Rest
        );
    }

    #[test]
    fn an_ended_job_is_not_submitted_again_also_if_the_session_forgot_it() {
        assert_eq!(
            decide(
                wanted(false),
                &recorded("h", None),
                vec![pushed_job("op", "FINISHED")]
            ),
            JobStep::Nothing
        );
        for state in [JobState::Finished, JobState::Failed, JobState::Canceled] {
            assert_eq!(
                decide(wanted(false), &recorded("h", Some(state)), vec![]),
                JobStep::Nothing
            );
        }
    }

    #[test]
    fn a_job_that_ran_is_submitted_again_when_its_job_manager_lost_it() {
        let status = recorded("h", Some(JobState::Running));
        assert_eq!(
            decide(wanted(false), &status, vec![]),
            JobStep::Submit {
                operation_id: "op".into()
            }
        );
    }
}
