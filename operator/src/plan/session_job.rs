//! What to do next about a FlinkSessionJob: a pure decision.

use thalweg_crds::{JobState, SessionJobStatus};
use thalweg_proto::cluster::v1::{ClusterSnapshot, JobStatus};

use super::state::{Hold, StatePlan, Transition, decide_in_session, recorded_upgrade, taken};
use super::{is_terminal, job_of};
use crate::cluster::Job;

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobStep {
    /// It is as it should be.
    Nothing,
    /// The session's JobManager isn't there to ask.
    Wait,
    /// Submit under this id; the id is new if it isn't the recorded one.
    Submit { operation_id: String, state: StatePlan },
    /// The job stays until its savepoint is there.
    Hold(Hold),
    /// End the job that runs: another is wanted, or none.
    Cancel { job_id: String },
    /// None is wanted and none runs.
    Rest { state: StatePlan },
}

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) uid: &'a str,
    pub(crate) generation: i64,
    pub(crate) job: &'a Job,
    /// Hash of what is to be submitted.
    pub(crate) hash: &'a str,
}

/// Decides.
pub(crate) fn plan_session_job(
    wanted: &Wanted<'_>,
    status: &SessionJobStatus,
    snapshot: Option<&ClusterSnapshot>,
) -> JobStep {
    let suspended = wanted.job.suspended;
    if snapshot.is_none() {
        // A job that has nothing to say to the session is done without it.
        return if suspended && status.operation_id.is_none() {
            let upgrade = recorded_upgrade(&status.recovery, status.job_status.as_ref());
            JobStep::Rest {
                state: StatePlan {
                    upgrade,
                    ..StatePlan::default()
                },
            }
        } else {
            JobStep::Wait
        };
    }
    let current = status.operation_id.is_some() && status.job_hash.as_deref() == Some(wanted.hash);
    let pushed = job_of(snapshot, status.operation_id.as_deref());
    let transition = decide_in_session(wanted, status, pushed, current);
    if let Transition::Hold(hold) = transition {
        return JobStep::Hold(hold);
    }
    if let Some(job) = pushed.filter(|job| !is_terminal(job)) {
        let stop = status.recovery.savepoint_operation_id.clone().unwrap_or_default();
        return match transition {
            Transition::Current { .. } => JobStep::Nothing,
            _ if is_cancelling(job) => JobStep::Nothing,
            // Its savepoint is there, it is about to end by itself.
            _ if has_stopped(job, &stop) => JobStep::Hold(Hold::UnderWay { operation_id: stop }),
            _ => JobStep::Cancel {
                job_id: job.job_id.clone(),
            },
        };
    }
    let fresh = || format!("{}-{}", wanted.uid, wanted.generation);
    match transition {
        Transition::Current { restore } => match &status.operation_id {
            // Ended, as the session says or as was recorded before the session forgot it.
            Some(_) if pushed.is_some() || end_recorded(status) => JobStep::Nothing,
            // Not submitted yet, or lost with a JobManager: the same id is one job.
            recorded => JobStep::Submit {
                operation_id: recorded.clone().unwrap_or_else(fresh),
                state: StatePlan {
                    restore,
                    ..StatePlan::default()
                },
            },
        },
        Transition::Next { source, note } if suspended => JobStep::Rest {
            state: StatePlan {
                upgrade: source,
                note,
                ..StatePlan::default()
            },
        },
        Transition::Next { source, note } => JobStep::Submit {
            operation_id: fresh(),
            state: StatePlan {
                restore: taken(wanted.job, &status.recovery, source),
                redeploy_nonce: wanted.job.savepoint_redeploy_nonce,
                note,
                ..StatePlan::default()
            },
        },
        Transition::Hold(hold) => JobStep::Hold(hold),
    }
}

fn has_stopped(job: &JobStatus, stop: &str) -> bool {
    let mut savepoints = job.savepoints.iter();
    savepoints.any(|one| one.operation_id == stop && one.ended_ms > 0 && one.failure.is_none())
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
    #![allow(clippy::needless_pass_by_value)] // a job made in place reads better at the call without `&`

    use thalweg_crds::{ClaimMode, JobStatus as RecordedJob, UpgradeMode};
    use thalweg_proto::cluster::v1::{CheckpointStatus, SavepointStatus};

    use super::super::state::RestoreSource;
    use super::*;
    use crate::testing::{pushed_job, snapshot};

    fn spec(suspended: bool, upgrade_mode: UpgradeMode) -> Job {
        Job {
            package_uri: "local:///opt/wc".into(),
            package_sha256: None,
            sql: None,
            args: Vec::new(),
            parallelism: None,
            suspended,
            upgrade_mode,
            initial_savepoint_path: None,
            allow_non_restored_state: false,
            savepoint_redeploy_nonce: None,
            savepoint_trigger_nonce: None,
            checkpoint_trigger_nonce: None,
            policy: crate::policy::Policy::default(),
        }
    }

    fn wanted(suspended: bool) -> Job {
        spec(suspended, UpgradeMode::Stateless)
    }

    fn submission(operation_id: &str) -> JobStep {
        JobStep::Submit {
            operation_id: operation_id.into(),
            state: StatePlan::default(),
        }
    }

    fn step_of(job: &Job, status: &SessionJobStatus, snapshot: Option<&ClusterSnapshot>) -> JobStep {
        let wanted = Wanted {
            uid: "uid",
            generation: 4,
            job,
            hash: "h",
        };
        plan_session_job(&wanted, status, snapshot)
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

    fn decide(job: Job, status: &SessionJobStatus, jobs: Vec<JobStatus>) -> JobStep {
        step_of(&job, status, Some(&snapshot(jobs)))
    }

    #[test]
    fn a_new_job_is_submitted_under_an_id_that_follows_from_the_resource() {
        let step = decide(wanted(false), &SessionJobStatus::default(), vec![]);
        assert_eq!(step, submission("uid-4"));
    }

    #[test]
    fn a_submission_that_was_recorded_is_made_again_under_the_same_id() {
        let step = decide(wanted(false), &recorded("h", None), vec![]);
        assert_eq!(step, submission("op"));
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
        assert_eq!(step_of(&wanted(false), &recorded("h", None), None), JobStep::Wait);
        assert_eq!(
            step_of(&wanted(true), &SessionJobStatus::default(), None),
            JobStep::Rest {
                state: StatePlan::default()
            }
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
        assert_eq!(submit, submission("uid-4"));
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
            JobStep::Rest {
                state: StatePlan::default()
            }
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
        assert_eq!(decide(wanted(false), &status, vec![]), submission("op"));
    }

    fn restored(step: JobStep) -> Option<RestoreSource> {
        match step {
            JobStep::Submit { state, .. } => state.restore,
            JobStep::Rest { state } => state.upgrade,
            other => panic!("{other:?}"),
        }
    }

    fn source(path: &str, claim_mode: ClaimMode) -> Option<RestoreSource> {
        Some(RestoreSource {
            path: path.into(),
            claim_mode,
        })
    }

    #[test]
    fn a_first_submission_restores_from_the_initial_savepoint_and_a_later_one_does_not() {
        let first = Job {
            initial_savepoint_path: Some("s3://b/sp".into()),
            ..wanted(false)
        };
        let step = decide(first.clone(), &SessionJobStatus::default(), vec![]);
        assert_eq!(restored(step), source("s3://b/sp", ClaimMode::NoClaim));
        let mut status = recorded("old", Some(JobState::Canceled));
        status.recovery.job_started = Some(true);
        assert_eq!(restored(decide(first, &status, vec![])), None);
    }

    #[test]
    fn a_job_with_upgrade_mode_savepoint_stops_with_one_and_goes_on_from_it() {
        let changed = spec(false, UpgradeMode::Savepoint);
        let mut status = recorded("old", None);
        let trigger = decide(changed.clone(), &status, vec![pushed_job("op", "RUNNING")]);
        let JobStep::Hold(Hold::Trigger { operation_id, .. }) = trigger else {
            panic!("{trigger:?}")
        };
        status.recovery.savepoint_operation_id = Some(operation_id.clone());
        let stopped = |state: &str| {
            let mut job = pushed_job("op", state);
            job.savepoints = vec![SavepointStatus {
                operation_id: operation_id.clone(),
                path: "s3://b/sp".into(),
                stops_job: true,
                ended_ms: 1,
                ..SavepointStatus::default()
            }];
            vec![job]
        };
        assert!(matches!(
            decide(changed.clone(), &status, stopped("RUNNING")),
            JobStep::Hold(Hold::UnderWay { .. })
        ));
        let step = decide(changed, &status, stopped("FINISHED"));
        assert_eq!(restored(step), source("s3://b/sp", ClaimMode::NoClaim));
    }

    #[test]
    fn a_job_with_upgrade_mode_last_state_is_cancelled_and_goes_on_from_its_checkpoints() {
        let suspended = spec(true, UpgradeMode::LastState);
        let status = recorded("h", None);
        let job = |state: &str| {
            let mut job = pushed_job("op", state);
            job.checkpoints = Some(CheckpointStatus {
                latest_path: format!("s3://b/c/{}/chk-3", job.job_id),
                ..CheckpointStatus::default()
            });
            vec![job]
        };
        assert!(matches!(
            decide(suspended.clone(), &status, job("RUNNING")),
            JobStep::Cancel { .. }
        ));
        let step = decide(suspended, &status, job("CANCELED"));
        assert_eq!(
            restored(step),
            source("s3://b/c/0123456789abcdef0123456789abcdef", ClaimMode::Claim)
        );
    }
}
