//! A snapshot's way, also if the operator or the JobManager ends in the middle of it.

#![allow(clippy::needless_pass_by_value)] // `json!(...)` reads better at the call without `&`

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::testing::{now, seconds_ago, state_snapshot};

const JOB: &str = "0123456789abcdef0123456789abcdef";
const ADDRESS: &str = "http://10.0.0.1:6123";

fn running() -> SnapshotFacts {
    SnapshotFacts {
        job: JobFacts::Running { job_id: JOB.into() },
        address: Some(ADDRESS.into()),
        knows_attempt: true,
    }
}

fn without_job_manager(job: JobFacts) -> SnapshotFacts {
    SnapshotFacts {
        job,
        address: None,
        knows_attempt: false,
    }
}

fn gone() -> SnapshotFacts {
    without_job_manager(JobFacts::Missing("there is no FlinkApplication wc".into()))
}

fn suspended() -> SnapshotFacts {
    without_job_manager(JobFacts::Ended("FlinkApplication wc is suspended".into()))
}

fn starting() -> SnapshotFacts {
    without_job_manager(JobFacts::Waiting("the job is INITIALIZING".into()))
}

fn status(value: Value) -> StateSnapshotStatus {
    serde_json::from_value(value).unwrap()
}

fn decide(spec: Value, status: &StateSnapshotStatus, facts: &SnapshotFacts) -> SnapshotStep {
    let spec = state_snapshot(spec, Value::Null).spec;
    plan_snapshot("uid-9", &spec, status, facts, now())
}

fn savepoint() -> Value {
    json!({"savepoint": {}})
}

fn pending() -> StateSnapshotStatus {
    StateSnapshotStatus::default()
}

fn in_progress() -> StateSnapshotStatus {
    status(json!({"state": "IN_PROGRESS", "triggerId": "t", "jobId": JOB}))
}

#[test]
fn the_id_of_an_attempt_is_32_hex_digits_and_another_for_each() {
    let ids: Vec<String> = (0..3).map(|failures| trigger_id("uid-9", failures)).collect();
    assert!(
        ids.iter()
            .all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    );
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    assert_eq!(ids[0], trigger_id("uid-9", 0));
}

#[test]
fn a_running_jobs_snapshot_is_triggered_under_an_id_that_follows_from_the_resource() {
    let expected = SnapshotStep::Trigger {
        trigger_id: trigger_id("uid-9", 0),
        job_id: JOB.into(),
        address: ADDRESS.into(),
    };
    assert_eq!(decide(savepoint(), &pending(), &running()), expected);
    // Recorded, and perhaps triggered: the same id again.
    let recorded =
        status(json!({"state": "TRIGGER_PENDING", "triggerId": trigger_id("uid-9", 0), "jobId": JOB}));
    assert_eq!(decide(savepoint(), &recorded, &running()), expected);
}

#[test]
fn the_attempt_after_a_failure_waits_and_has_an_id_of_its_own() {
    let mut failed = status(json!({"state": "TRIGGER_PENDING", "failures": 1}));
    failed.retry_timestamp = Some(Time(seconds_ago(-7)));
    assert_eq!(
        decide(savepoint(), &failed, &running()),
        SnapshotStep::Backoff(Duration::from_secs(7))
    );
    failed.retry_timestamp = Some(Time(seconds_ago(1)));
    assert!(matches!(
        decide(savepoint(), &failed, &running()),
        SnapshotStep::Trigger { trigger_id: id, .. } if id == trigger_id("uid-9", 1)
    ));
}

#[test]
fn a_job_that_starts_is_waited_for_and_one_that_is_gone_or_ended_is_not() {
    assert!(matches!(
        decide(savepoint(), &pending(), &starting()),
        SnapshotStep::Wait { .. }
    ));
    for facts in [gone(), suspended()] {
        for status in [pending(), in_progress()] {
            assert!(matches!(
                decide(savepoint(), &status, &facts),
                SnapshotStep::Abandon { .. }
            ));
        }
    }
}

#[test]
fn a_job_manager_that_knows_the_attempt_is_asked_also_when_the_job_has_ended() {
    let ended = SnapshotFacts {
        job: JobFacts::Ended("the job is FINISHED".into()),
        ..running()
    };
    for facts in [running(), ended] {
        assert_eq!(
            decide(savepoint(), &in_progress(), &facts),
            SnapshotStep::Ask {
                trigger_id: "t".into(),
                job_id: JOB.into(),
                address: ADDRESS.into()
            }
        );
    }
    assert!(matches!(
        decide(savepoint(), &in_progress(), &starting()),
        SnapshotStep::Wait { .. }
    ));
}

#[test]
fn the_snapshot_of_a_start_that_another_has_replaced_is_abandoned() {
    let replaced = SnapshotFacts {
        knows_attempt: false,
        ..running()
    };
    assert!(matches!(
        decide(savepoint(), &in_progress(), &replaced),
        SnapshotStep::Abandon { reason } if reason.contains("started anew")
    ));
}

#[test]
fn a_savepoint_that_exists_is_complete_without_any_job() {
    let existing = json!({"savepoint": {"alreadyExists": true, "path": "s3://b/sp/1"}});
    assert_eq!(
        decide(existing, &pending(), &gone()),
        SnapshotStep::Complete {
            path: "s3://b/sp/1".into()
        }
    );
    let nowhere = json!({"savepoint": {"alreadyExists": true}});
    assert!(matches!(
        decide(nowhere, &pending(), &gone()),
        SnapshotStep::Refuse { reason } if reason.contains("spec.savepoint.path")
    ));
}

#[test]
fn neither_or_both_kinds_are_refused() {
    for spec in [json!({}), json!({"savepoint": {}, "checkpoint": {}})] {
        assert!(matches!(
            decide(spec, &pending(), &running()),
            SnapshotStep::Refuse { .. }
        ));
    }
}

#[test]
fn what_has_ended_stays_ended() {
    for state in ["COMPLETED", "FAILED", "ABANDONED"] {
        let ended = status(json!({"state": state}));
        assert_eq!(decide(savepoint(), &ended, &running()), SnapshotStep::Nothing);
    }
}

fn release(spec: Value, status: &StateSnapshotStatus, facts: &SnapshotFacts, seconds: u64) -> ReleaseStep {
    let spec = state_snapshot(spec, Value::Null).spec;
    plan_release(&spec, status, facts, Duration::from_secs(seconds))
}

fn completed() -> StateSnapshotStatus {
    status(json!({"state": "COMPLETED", "triggerId": "t", "path": "s3://b/sp/1"}))
}

#[test]
fn a_completed_savepoint_is_deleted_by_its_job_manager() {
    assert_eq!(
        release(savepoint(), &completed(), &running(), 0),
        ReleaseStep::Dispose {
            path: "s3://b/sp/1".into(),
            address: ADDRESS.into()
        }
    );
    let mut begun = completed();
    begun.disposal_id = Some("d".into());
    assert!(matches!(
        release(savepoint(), &begun, &running(), 0),
        ReleaseStep::Ask { disposal_id, .. } if disposal_id == "d"
    ));
}

#[test]
fn what_is_to_stay_or_never_was_goes_at_once() {
    let kept = json!({"savepoint": {"disposeOnDelete": false}});
    let ends = [
        (kept, completed()),
        (json!({"checkpoint": {}}), completed()),
        (savepoint(), pending()),
        (savepoint(), status(json!({"state": "FAILED", "triggerId": "t"}))),
        (
            savepoint(),
            status(json!({"state": "ABANDONED", "triggerId": "t"})),
        ),
    ];
    for (spec, status) in ends {
        assert_eq!(release(spec, &status, &gone(), 0), ReleaseStep::Release);
    }
}

#[test]
fn one_that_may_be_under_way_goes_on_until_it_ends_but_not_for_ever() {
    let triggered = status(json!({"state": "TRIGGER_PENDING", "triggerId": "t"}));
    for status in [in_progress(), triggered] {
        assert_eq!(release(savepoint(), &status, &running(), 0), ReleaseStep::Follow);
        assert_eq!(
            release(savepoint(), &status, &running(), 300),
            ReleaseStep::Release
        );
    }
}

#[test]
fn a_savepoint_whose_job_is_gone_stays_and_that_is_told() {
    assert!(matches!(
        release(savepoint(), &completed(), &gone(), 0),
        ReleaseStep::GiveUp { reason } if reason.contains("s3://b/sp/1 stays in storage")
    ));
}

#[test]
fn a_suspended_jobs_savepoint_waits_for_it_for_a_while() {
    assert!(matches!(
        release(savepoint(), &completed(), &suspended(), 0),
        ReleaseStep::Wait { reason } if reason.contains("spec.savepoint.disposeOnDelete")
    ));
    assert!(matches!(
        release(savepoint(), &completed(), &suspended(), 300),
        ReleaseStep::GiveUp { .. }
    ));
}
