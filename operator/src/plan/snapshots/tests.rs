//! What a job's resource asks for by nonces, intervals and stops, and what is kept of it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::testing::{cluster, merge, now, seconds_ago, state_snapshot};

const HOUR: i64 = 3600;

/// A job with folders for both kinds.
fn job(change: Value) -> Job {
    let mut spec = json!({"flinkConfiguration": {
        "execution.checkpointing.dir": "s3://b/c", "execution.checkpointing.savepoint-dir": "s3://b/sp",
    }});
    merge(&mut spec, change);
    cluster(spec).job.unwrap()
}

fn with_nonce(nonce: i64) -> Job {
    job(json!({"job": {"savepointTriggerNonce": nonce}}))
}

fn every_hour() -> Job {
    job(json!({"flinkConfiguration": {"kubernetes.operator.periodic.savepoint.interval": "1 h"}}))
}

fn running(job: &Job) -> Requests<'_> {
    Requests {
        name: "wc",
        job,
        first: false,
        running_since: Some(seconds_ago(60)),
        stopped_with: None,
        now: now(),
    }
}

fn asked(wanted: &Requests<'_>, recorded: &RequestedSnapshots) -> (RequestedSnapshots, Vec<String>) {
    let (record, _) = request(wanted, recorded);
    let names = record.pending.iter().map(|one| one.name.clone()).collect();
    (record, names)
}

#[test]
fn a_nonce_that_is_there_when_the_resource_is_first_seen_asks_for_nothing() {
    let job = with_nonce(1);
    let wanted = Requests {
        first: true,
        running_since: None,
        ..running(&job)
    };
    let (record, names) = asked(&wanted, &RequestedSnapshots::default());
    assert_eq!(
        (record.savepoint_trigger_nonce, names),
        (Some(1), Vec::<String>::new())
    );
    assert_eq!(asked(&running(&job), &record).1, Vec::<String>::new());
}

#[test]
fn another_nonce_asks_for_one_savepoint_once() {
    let job = with_nonce(2);
    let before = RequestedSnapshots {
        savepoint_trigger_nonce: Some(1),
        ..RequestedSnapshots::default()
    };
    let (record, names) = asked(&running(&job), &before);
    assert_eq!(names, ["wc-savepoint-manual-1800000000000"]);
    let pending = &record.pending[0];
    assert_eq!(
        (pending.trigger_type, pending.trigger_nonce, pending.snapshot_type),
        (SnapshotTriggerType::Manual, Some(2), SnapshotType::Savepoint)
    );
    // Killed before it was created, and after: it is recorded once.
    assert_eq!(asked(&running(&job), &record).0, record);
}

#[test]
fn a_nonce_waits_for_the_job_to_run() {
    let job = with_nonce(2);
    let waiting = Requests {
        running_since: None,
        ..running(&job)
    };
    let (record, names) = asked(&waiting, &RequestedSnapshots::default());
    assert_eq!((record.savepoint_trigger_nonce, names.len()), (None, 0));
    assert_eq!(asked(&running(&job), &record).1.len(), 1);
}

#[test]
fn the_two_kinds_have_nonces_of_their_own() {
    let job = job(json!({"job": {"savepointTriggerNonce": 5, "checkpointTriggerNonce": 5}}));
    let before = RequestedSnapshots {
        savepoint_trigger_nonce: Some(5),
        ..RequestedSnapshots::default()
    };
    let (record, names) = asked(&running(&job), &before);
    assert_eq!(names, ["wc-checkpoint-manual-1800000000000"]);
    assert_eq!(record.checkpoint_trigger_nonce, Some(5));
}

#[test]
fn an_interval_begins_with_the_jobs_start_and_goes_on_from_the_last_one() {
    let job = every_hour();
    let (record, wait) = request(&running(&job), &RequestedSnapshots::default());
    assert_eq!((record.pending.len(), wait), (0, Some(Duration::from_secs(3540))));

    let long = Requests {
        running_since: Some(seconds_ago(2 * HOUR)),
        ..running(&job)
    };
    let (record, wait) = request(&long, &RequestedSnapshots::default());
    assert_eq!(record.pending[0].name, "wc-savepoint-periodic-1800000000000");
    assert_eq!(wait, Some(Duration::from_secs(3600)));
    assert_eq!(request(&long, &record).0, record);

    let soon = Requests {
        now: seconds_ago(-1800),
        ..long
    };
    let (_, wait) = request(&soon, &record);
    assert_eq!(wait, Some(Duration::from_secs(1800)));
}

#[test]
fn nothing_is_due_while_the_job_does_not_run() {
    let job = every_hour();
    let suspended = Requests {
        running_since: None,
        ..running(&job)
    };
    let last = RequestedSnapshots {
        last_periodic_savepoint_timestamp: Some(Time(seconds_ago(5 * HOUR))),
        ..RequestedSnapshots::default()
    };
    assert_eq!(request(&suspended, &last), (last.clone(), None));
    assert_eq!(request(&running(&job), &last).0.pending.len(), 1);
}

#[test]
fn the_savepoint_of_a_stop_gets_a_resource_of_its_own() {
    let job = job(json!({}));
    let stopped = Requests {
        running_since: None,
        stopped_with: Some("s3://b/sp/1"),
        ..running(&job)
    };
    let (record, names) = asked(&stopped, &RequestedSnapshots::default());
    assert_eq!(names, ["wc-savepoint-upgrade-1800000000000"]);
    assert_eq!(record.pending[0].path.as_deref(), Some("s3://b/sp/1"));
    assert_eq!(asked(&stopped, &record).0, record);
}

/// A snapshot of the history: its name, how old, why, in which state.
fn one(name: &str, age: i64, trigger: &str, state: &str) -> Arc<FlinkStateSnapshot> {
    let mut snapshot = state_snapshot(
        json!({"savepoint": {}}),
        json!({"state": state, "path": format!("s3://{name}")}),
    );
    snapshot.metadata.name = Some(name.into());
    snapshot.metadata.creation_timestamp = Some(Time(seconds_ago(age)));
    let labels = snapshot.labels_mut();
    labels.insert(LABEL_SNAPSHOT_TRIGGER_TYPE.into(), trigger.into());
    Arc::new(snapshot)
}

fn surplus_names(snapshots: &[Arc<FlinkStateSnapshot>], job: &Job, in_use: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = surplus(snapshots, job, in_use, now())
        .iter()
        .map(|one| one.name_any())
        .collect();
    names.sort();
    names
}

fn keeping(count: usize) -> Job {
    job(json!({"flinkConfiguration": {"kubernetes.operator.savepoint.history.max.count": count.to_string()}}))
}

#[test]
fn of_the_operators_own_the_newest_are_kept_and_of_others_all() {
    let all = [
        one("a", 50, "PERIODIC", "COMPLETED"),
        one("b", 40, "UPGRADE", "COMPLETED"),
        one("c", 30, "PERIODIC", "COMPLETED"),
        one("d", 20, "PERIODIC", "COMPLETED"),
        one("by-hand", 60, "MANUAL", "COMPLETED"),
        one("not-labelled", 70, "", "COMPLETED"),
    ];
    assert_eq!(surplus_names(&all, &keeping(2), &[]), ["a", "b"]);
    assert_eq!(surplus_names(&all, &keeping(10), &[]), Vec::<String>::new());
}

#[test]
fn the_newest_completed_one_is_kept_however_old_or_many() {
    let all = [
        one("done", 90 * HOUR, "PERIODIC", "COMPLETED"),
        one("older", 91 * HOUR, "PERIODIC", "COMPLETED"),
        one("failed", 80 * HOUR, "PERIODIC", "FAILED"),
        one("fresh", 60, "PERIODIC", "FAILED"),
    ];
    assert_eq!(surplus_names(&all, &keeping(10), &[]), ["failed", "older"]);
    assert_eq!(surplus_names(&all, &keeping(1), &[]), ["failed", "older"]);
}

#[test]
fn what_is_under_way_or_in_use_or_going_is_left_alone() {
    let mut going = one("going", 60, "PERIODIC", "COMPLETED").as_ref().clone();
    going.metadata.deletion_timestamp = Some(Time(now()));
    let all = [
        one("newest", 10, "PERIODIC", "COMPLETED"),
        one("started-from", 40, "UPGRADE", "COMPLETED"),
        one("under-way", 50, "PERIODIC", "IN_PROGRESS"),
        one("old", 55, "PERIODIC", "COMPLETED"),
        Arc::new(going),
    ];
    let in_use = ["s3://started-from"];
    assert_eq!(surplus_names(&all, &keeping(1), &in_use), ["old"]);
}

#[test]
fn checkpoints_are_kept_as_many_as_the_job_retains_whatever_their_age() {
    let checkpoint = |name: &str, age| {
        let mut snapshot = one(name, age, "PERIODIC", "COMPLETED").as_ref().clone();
        snapshot.spec.savepoint = None;
        snapshot.spec.checkpoint = Some(thalweg_crds::CheckpointSpec::default());
        Arc::new(snapshot)
    };
    let all = [
        checkpoint("a", 99 * HOUR),
        checkpoint("b", 98 * HOUR),
        checkpoint("c", 97 * HOUR),
    ];
    let retained = job(json!({"flinkConfiguration": {"execution.checkpointing.num-retained": "2"}}));
    assert_eq!(surplus_names(&all, &retained, &[]), ["a"]);
    assert_eq!(surplus_names(&all, &job(json!({})), &[]), ["a", "b"]);
}

#[test]
fn the_history_can_be_left_alone() {
    let all = [
        one("a", 99 * HOUR, "PERIODIC", "COMPLETED"),
        one("b", 10, "PERIODIC", "COMPLETED"),
    ];
    let kept = job(json!({"flinkConfiguration": {"kubernetes.operator.savepoint.cleanup.enabled": "false"}}));
    assert_eq!(surplus_names(&all, &kept, &[]), Vec::<String>::new());
    assert_eq!(surplus_names(&all, &job(json!({})), &[]), ["a"]);
}
