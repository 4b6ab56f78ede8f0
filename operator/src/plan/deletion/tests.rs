//! A deletion that waits for its savepoint, and never for ever.

use thalweg_proto::control::v1::Failure;

use super::*;
use crate::testing::pushed_job;

const ID: &str = "uid-delete-1-stop";

fn policy() -> Policy {
    Policy {
        savepoint_on_deletion: true,
        ..Policy::default()
    }
}

/// As the job is and what is recorded of it.
struct Case {
    policy: Policy,
    recovery: RecoveryStatus,
    upgrade_path: Option<&'static str>,
    active: bool,
    pushed: Option<PushedJob>,
    voice: JobManagerVoice,
    seconds: u64,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            policy: policy(),
            recovery: RecoveryStatus::default(),
            upgrade_path: None,
            active: true,
            pushed: Some(pushed_job("op", "RUNNING")),
            voice: JobManagerVoice::Answers,
            seconds: 1,
        }
    }
}

fn decide(case: &Case) -> DeletionStep {
    before_deletion(&Deleted {
        uid: "uid",
        policy: &case.policy,
        recovery: &case.recovery,
        active: case.active,
        upgrade_path: case.upgrade_path,
        pushed: case.pushed.as_ref(),
        job_manager: case.voice,
        since: Duration::from_secs(case.seconds),
    })
}

fn recorded(id: &str, failure: Option<&str>) -> RecoveryStatus {
    RecoveryStatus {
        savepoint_operation_id: Some(id.into()),
        savepoint_failure: failure.map(str::to_owned),
        ..RecoveryStatus::default()
    }
}

fn stop(state: &str, id: &str, ended: bool, failure: Option<&str>) -> PushedJob {
    let failure = failure.map(|message| Failure {
        message: message.into(),
        ..Failure::default()
    });
    let savepoint = SavepointStatus {
        operation_id: id.into(),
        path: if ended && failure.is_none() {
            "s3://b/sp/1".into()
        } else {
            String::new()
        },
        failure,
        stops_job: true,
        triggered_ms: 1,
        ended_ms: u64::from(ended),
    };
    PushedJob {
        savepoints: vec![savepoint],
        ..pushed_job("op", state)
    }
}

fn trigger(id: &str) -> DeletionStep {
    DeletionStep::Trigger {
        operation_id: id.into(),
        job_id: "0123456789abcdef0123456789abcdef".into(),
    }
}

#[test]
fn without_the_option_or_a_job_that_runs_nothing_is_waited_for() {
    let default = Case {
        policy: Policy::default(),
        ..Case::default()
    };
    let idle = Case {
        active: false,
        ..Case::default()
    };
    let suspended = Case {
        upgrade_path: Some("s3://b/sp/0"),
        pushed: None,
        voice: JobManagerVoice::Gone,
        ..Case::default()
    };
    let ended = Case {
        pushed: Some(pushed_job("op", "FINISHED")),
        ..Case::default()
    };
    for case in [default, idle, suspended, ended] {
        assert_eq!(decide(&case), DeletionStep::Go);
    }
}

#[test]
fn a_running_job_is_asked_to_stop_once_under_one_id() {
    assert_eq!(decide(&Case::default()), trigger(ID));
    let asked = Case {
        recovery: recorded(ID, None),
        ..Case::default()
    };
    assert_eq!(decide(&asked), trigger(ID), "recorded and perhaps not asked yet");
    let under_way = Case {
        recovery: recorded(ID, None),
        pushed: Some(stop("RUNNING", ID, false, None)),
        ..Case::default()
    };
    assert_eq!(decide(&under_way), DeletionStep::Wait);
}

#[test]
fn the_savepoint_that_is_there_is_told_also_after_too_long_and_also_if_an_upgrade_asked_for_it() {
    for id in [ID, "uid-7-stop"] {
        let case = Case {
            recovery: recorded(id, None),
            pushed: Some(stop("FINISHED", id, true, None)),
            seconds: 9999,
            ..Case::default()
        };
        assert_eq!(
            decide(&case),
            DeletionStep::Done {
                path: "s3://b/sp/1".into()
            }
        );
    }
}

#[test]
fn a_failed_attempt_is_followed_by_another_until_the_time_is_over() {
    let failed = Case {
        recovery: recorded(ID, None),
        pushed: Some(stop("RUNNING", ID, true, Some("the disk is full"))),
        ..Case::default()
    };
    assert_eq!(
        decide(&failed),
        DeletionStep::Failed {
            next_id: "uid-delete-2-stop".into(),
            reason: "the disk is full".into()
        }
    );
    let next = Case {
        recovery: recorded("uid-delete-2-stop", None),
        ..failed
    };
    assert_eq!(decide(&next), trigger("uid-delete-2-stop"));
    let late = Case { seconds: 300, ..next };
    assert!(
        matches!(decide(&late), DeletionStep::GivenUp { reason } if reason.contains("within 300 s")),
        "5 minutes, the official operator's time"
    );
}

#[test]
fn what_was_given_up_is_not_tried_again() {
    let case = Case {
        recovery: recorded(ID, Some("too late")),
        ..Case::default()
    };
    assert_eq!(decide(&case), DeletionStep::Go);
}

#[test]
fn an_upgrade_that_could_not_be_made_does_not_spare_the_savepoint() {
    let case = Case {
        recovery: recorded("uid-7-stop", Some("denied")),
        pushed: Some(stop("RUNNING", "uid-7-stop", true, Some("denied"))),
        ..Case::default()
    };
    assert_eq!(decide(&case), trigger(ID));
}

#[test]
fn a_job_that_restarts_or_a_job_manager_that_is_silent_is_waited_for() {
    let restarting = Case {
        pushed: Some(pushed_job("op", "RESTARTING")),
        ..Case::default()
    };
    let silent = Case {
        pushed: None,
        voice: JobManagerVoice::Silent,
        ..Case::default()
    };
    for case in [restarting, silent] {
        assert_eq!(decide(&case), DeletionStep::Wait);
        let late = Case { seconds: 300, ..case };
        assert!(matches!(decide(&late), DeletionStep::GivenUp { .. }));
    }
}

#[test]
fn without_a_job_manager_there_can_be_no_savepoint() {
    let case = Case {
        pushed: None,
        voice: JobManagerVoice::Gone,
        ..Case::default()
    };
    assert!(
        matches!(decide(&case), DeletionStep::GivenUp { reason } if reason.contains("JobManager does not run"))
    );
}
