//! Where a job's state goes at each change, also if the operator ends between any two writes.

#![allow(clippy::needless_pass_by_value)] // `json!(...)` reads better at the call without `&`

use serde_json::{Value, json};
use thalweg_crds::{CheckpointStatus, ClusterStatus};
use thalweg_proto::cluster::v1::SavepointStatus;
use thalweg_proto::control::v1::{Failure, FailureClass};

use super::*;
use crate::observe::{DeploymentFacts, PodFacts};
use crate::plan::{Goal, JobManagerAction, Plan, plan};
use crate::status::{cluster_intent, cluster_status};
use crate::testing::{cluster, merge, now, pushed_job, snapshot, view};

const SAVEPOINT: &str = "s3://b/sp/savepoint-1";
const JOB: &str = "0123456789abcdef0123456789abcdef";

fn folder() -> String {
    format!("s3://b/c/{JOB}")
}

fn spec(mode: &str, change: Value) -> Value {
    let mut spec = json!({
        "job": {"upgradeMode": mode},
        "flinkConfiguration": {
            "execution.checkpointing.interval": "1 s", "execution.checkpointing.dir": "s3://b/c",
            "execution.checkpointing.savepoint-dir": "s3://b/sp",
        },
    });
    merge(&mut spec, change);
    spec
}

fn wanted(mode: &str, change: Value, generation: i64) -> Cluster {
    let mut cluster = cluster(spec(mode, change));
    cluster.generation = generation;
    cluster
}

fn changed() -> Value {
    json!({"job": {"args": ["--new"]}})
}

fn suspended() -> Value {
    json!({"job": {"state": "suspended"}})
}

/// The JobManager of this spec under this operation; what it pushes.
fn deployed(cluster: &Cluster, operation_id: &str, job: Option<PushedJob>) -> Facts {
    let hash = cluster.job_manager_hash();
    Facts {
        deployment: Some(DeploymentFacts {
            hash: hash.clone(),
            operation_id: Some(operation_id.into()),
            ready: true,
            replicas: 1,
            ..DeploymentFacts::default()
        }),
        job_managers: vec![PodFacts {
            name: "jm".into(),
            hash,
            running: true,
            ready: true,
            ..PodFacts::default()
        }],
        view: job.map(|job| view(snapshot(vec![job]))),
        ..Facts::default()
    }
}

fn started(cluster: &Cluster, operation_id: &str) -> ClusterStatus {
    let mut status = crate::testing::status_of(cluster, operation_id);
    status.recovery.job_started = Some(true);
    status.job_status = Some(JobStatus {
        state: Some(JobState::Running),
        job_id: Some(JOB.into()),
        ..JobStatus::default()
    });
    status
}

fn with_checkpoint(mut job: PushedJob) -> PushedJob {
    job.checkpoints = Some(PushedCheckpoints {
        completed: 7,
        latest_id: 7,
        latest_path: format!("{}/chk-7", folder()),
        ..PushedCheckpoints::default()
    });
    job
}

fn with_stop(mut job: PushedJob, operation_id: &str, end: Option<Result<&str, &str>>) -> PushedJob {
    let failure = end.and_then(Result::err).map(|message| Failure {
        class: FailureClass::Retryable.into(),
        message: message.into(),
        detail: String::new(),
    });
    job.savepoints = vec![SavepointStatus {
        operation_id: operation_id.into(),
        path: end.and_then(Result::ok).unwrap_or_default().into(),
        failure,
        stops_job: true,
        triggered_ms: 1,
        ended_ms: end.map_or(0, |_| 2),
    }];
    job
}

/// The status after a pass, as the next one finds it.
fn after(cluster: &Cluster, plan: &Plan, facts: &Facts, before: &ClusterStatus) -> ClusterStatus {
    cluster_status(cluster, plan, facts, before, now())
}

fn source(path: &str, claim_mode: ClaimMode) -> Option<RestoreSource> {
    Some(RestoreSource {
        path: path.into(),
        claim_mode,
    })
}

fn decide(cluster: &Cluster, status: &ClusterStatus, facts: &Facts) -> Plan {
    plan(cluster, status, facts, now())
}

#[test]
fn the_first_start_restores_from_the_initial_savepoint_and_a_later_one_does_not() {
    let initial = json!({"job": {"initialSavepointPath": SAVEPOINT}});
    let cluster = wanted("stateless", initial.clone(), 1);
    let first = decide(&cluster, &ClusterStatus::default(), &Facts::default());
    assert_eq!(first.job_manager, JobManagerAction::Apply);
    assert_eq!(first.state.restore, source(SAVEPOINT, ClaimMode::NoClaim));
    let recorded = after(&cluster, &first, &Facts::default(), &ClusterStatus::default());
    assert_eq!(decide(&cluster, &recorded, &Facts::default()).state, first.state);

    let mut change = initial;
    merge(&mut change, changed());
    let next = wanted("stateless", change, 2);
    let facts = deployed(&cluster, "op", Some(pushed_job("op", "RUNNING")));
    let later = decide(&next, &started(&cluster, "op"), &facts);
    assert_eq!(
        (later.job_manager, later.state.restore),
        (JobManagerAction::Apply, None)
    );
}

#[test]
fn another_initial_savepoint_restarts_nothing() {
    let before = wanted("stateless", json!({}), 1);
    let after = wanted(
        "stateless",
        json!({"job": {"initialSavepointPath": SAVEPOINT, "allowNonRestoredState": true}}),
        2,
    );
    assert_eq!(before.job_manager_hash(), after.job_manager_hash());
}

#[test]
fn an_initial_savepoint_that_was_wrong_can_be_corrected_until_a_job_has_started() {
    let wrong = wanted(
        "savepoint",
        json!({"job": {"initialSavepointPath": "s3://b/none"}}),
        1,
    );
    let mut status = crate::testing::status_of(&wrong, "op");
    status.recovery.restore_path = Some("s3://b/none".into());
    let mut facts = deployed(&wrong, "op", None);
    facts.view = Some(view(snapshot(vec![])));
    let right = wanted(
        "savepoint",
        json!({"restartNonce": 1, "job": {"initialSavepointPath": SAVEPOINT}}),
        2,
    );
    let plan = decide(&right, &status, &facts);
    assert_eq!(plan.job_manager, JobManagerAction::Apply);
    assert_eq!(plan.state.restore, source(SAVEPOINT, ClaimMode::NoClaim));
}

#[test]
fn a_running_job_is_stopped_with_a_savepoint_before_anything_is_replaced() {
    let old = wanted("savepoint", json!({}), 1);
    for change in [changed(), suspended()] {
        let new = wanted("savepoint", change, 2);
        let status = started(&old, "uid-1-1");
        let running = pushed_job("uid-1-1", "RUNNING");
        let mut facts = deployed(&old, "uid-1-1", Some(running.clone()));
        facts.task_managers = vec![PodFacts {
            name: "tm".into(),
            hash: "of the old spec".into(),
            ordinal: Some(0),
            ready: true,
            ..PodFacts::default()
        }];
        let trigger = decide(&new, &status, &facts);
        assert_eq!(
            (trigger.goal, trigger.job_manager),
            (Goal::Stopping, JobManagerAction::Keep)
        );
        assert_eq!(
            trigger.state.hold,
            Some(Hold::Trigger {
                operation_id: "uid-1-2-stop".into(),
                job_id: JOB.into()
            })
        );
        assert!(trigger.delete.is_empty() && trigger.create.is_empty());

        // The id is recorded; the operator ends before or after it has asked.
        let recorded = after(&new, &trigger, &facts, &status);
        assert_eq!(
            recorded.recovery.savepoint_operation_id.as_deref(),
            Some("uid-1-2-stop")
        );
        assert_eq!(decide(&new, &recorded, &facts).state, trigger.state);
        facts.view = Some(view(snapshot(vec![with_stop(running, "uid-1-2-stop", None)])));
        let waiting = decide(&new, &recorded, &facts);
        assert_eq!(
            waiting.state.hold,
            Some(Hold::UnderWay {
                operation_id: "uid-1-2-stop".into()
            })
        );
    }
}

#[test]
fn a_stopped_job_starts_again_from_its_savepoint() {
    let old = wanted("savepoint", json!({}), 1);
    let new = wanted("savepoint", json!({"job": {"parallelism": 3}}), 2);
    let mut status = started(&old, "uid-1-1");
    status.recovery.savepoint_operation_id = Some("uid-1-2-stop".into());
    let ended = with_stop(
        pushed_job("uid-1-1", "FINISHED"),
        "uid-1-2-stop",
        Some(Ok(SAVEPOINT)),
    );
    let facts = deployed(&old, "uid-1-1", Some(ended));
    let next = decide(&new, &status, &facts);
    assert_eq!(
        (next.goal, next.job_manager),
        (Goal::Run, JobManagerAction::Apply)
    );
    assert_eq!(next.operation_id.as_deref(), Some("uid-1-2"));
    assert_eq!(next.state.restore, source(SAVEPOINT, ClaimMode::NoClaim));

    // The intent is recorded; the old Deployment is still there, or gone, or the new one is there.
    let recorded = after(&new, &next, &facts, &status);
    assert_eq!(recorded.recovery.savepoint_operation_id, None);
    for facts in [
        facts,
        Facts::default(),
        deployed(&new, "uid-1-2", Some(pushed_job("uid-1-2", "RUNNING"))),
    ] {
        let again = decide(&new, &recorded, &facts);
        assert_eq!(again.operation_id.as_deref(), Some("uid-1-2"));
        assert_eq!(again.state.restore, next.state.restore);
    }
}

#[test]
fn a_suspended_job_leaves_its_savepoint_and_resumes_from_it() {
    let old = wanted("savepoint", json!({}), 1);
    let resting = wanted("savepoint", suspended(), 2);
    let mut status = started(&old, "uid-1-1");
    status.recovery.savepoint_operation_id = Some("uid-1-2-stop".into());
    let ended = with_stop(
        pushed_job("uid-1-1", "FINISHED"),
        "uid-1-2-stop",
        Some(Ok(SAVEPOINT)),
    );
    let facts = deployed(&old, "uid-1-1", Some(ended));
    let stop = decide(&resting, &status, &facts);
    assert_eq!(
        (stop.goal, stop.job_manager),
        (Goal::Suspended, JobManagerAction::Delete)
    );
    let recorded = after(&resting, &stop, &facts, &status);
    assert_eq!(
        recorded
            .job_status
            .as_ref()
            .unwrap()
            .upgrade_savepoint_path
            .as_deref(),
        Some(SAVEPOINT)
    );
    // Recorded, the JobManager is still there or gone with all it knew: the path stays.
    for facts in [&facts, &Facts::default()] {
        let again = decide(&resting, &recorded, facts);
        assert_eq!(
            after(&resting, &again, facts, &recorded).job_status,
            recorded.job_status
        );
    }
    let resumed = wanted("savepoint", json!({"job": {"parallelism": 4}}), 3);
    let start = decide(&resumed, &recorded, &Facts::default());
    assert_eq!(start.operation_id.as_deref(), Some("uid-1-3"));
    assert_eq!(start.state.restore, source(SAVEPOINT, ClaimMode::NoClaim));
    let running = after(&resumed, &start, &Facts::default(), &recorded);
    assert_eq!(running.job_status.as_ref().unwrap().upgrade_savepoint_path, None);
    assert_eq!(
        decide(&resumed, &running, &Facts::default()).state.restore,
        start.state.restore
    );
}

#[test]
fn a_job_resumed_without_a_wish_for_state_starts_without() {
    let old = wanted("savepoint", suspended(), 2);
    let mut status = started(&old, "uid-1-1");
    status.operation_id = None;
    status.job_manager_hash = None;
    status.job_status.as_mut().unwrap().upgrade_savepoint_path = Some(SAVEPOINT.into());
    let start = decide(&wanted("stateless", json!({}), 3), &status, &Facts::default());
    assert_eq!(
        (start.job_manager, start.state.restore),
        (JobManagerAction::Apply, None)
    );
}

#[test]
fn a_change_that_is_taken_back_while_the_job_stops_starts_it_again_from_its_savepoint() {
    let old = wanted("savepoint", json!({}), 1);
    let mut same = old.clone();
    same.generation = 3;
    let mut status = started(&old, "uid-1-1");
    status.recovery.savepoint_operation_id = Some("uid-1-2-stop".into());
    let job = |state, end| with_stop(pushed_job("uid-1-1", state), "uid-1-2-stop", end);
    let waiting = decide(
        &same,
        &status,
        &deployed(&old, "uid-1-1", Some(job("RUNNING", None))),
    );
    assert_eq!(waiting.goal, Goal::Stopping);
    // It failed: the job runs as wanted.
    let kept = deployed(&old, "uid-1-1", Some(job("RUNNING", Some(Err("no")))));
    let plan = decide(&same, &status, &kept);
    assert_eq!((plan.goal, plan.job_manager), (Goal::Run, JobManagerAction::Keep));
    assert_eq!(
        after(&same, &plan, &kept, &status)
            .recovery
            .savepoint_operation_id,
        None
    );
    // It was made: the JobManager of the very same spec goes first.
    let stopped = deployed(&old, "uid-1-1", Some(job("FINISHED", Some(Ok(SAVEPOINT)))));
    let gone = decide(&same, &status, &stopped);
    assert_eq!(
        (gone.job_manager, gone.operation_id.clone()),
        (JobManagerAction::Delete, None)
    );
    let recorded = after(&same, &gone, &stopped, &status);
    assert_eq!(
        decide(&same, &recorded, &stopped).job_manager,
        JobManagerAction::Delete
    );
    let start = decide(&same, &recorded, &Facts::default());
    assert_eq!(start.operation_id.as_deref(), Some("uid-1-3"));
    assert_eq!(start.state.restore, source(SAVEPOINT, ClaimMode::NoClaim));
}

#[test]
fn a_savepoint_that_failed_leaves_the_job_and_is_tried_again_for_another_generation_only() {
    let old = wanted("savepoint", json!({}), 1);
    let new = wanted("savepoint", changed(), 2);
    let mut status = started(&old, "uid-1-1");
    status.recovery.savepoint_operation_id = Some("uid-1-2-stop".into());
    let running = pushed_job("uid-1-1", "RUNNING");
    let failed = with_stop(running.clone(), "uid-1-2-stop", Some(Err("bucket is gone")));
    let facts = deployed(&old, "uid-1-1", Some(failed));
    let plan = decide(&new, &status, &facts);
    assert_eq!(plan.goal, Goal::Stopping);
    let told = after(&new, &plan, &facts, &status);
    assert!(told.error.as_deref().unwrap().ends_with("bucket is gone"));
    let of = |type_: &str| {
        let mut conditions = told.conditions.iter();
        let found = conditions.find(|condition| condition.type_ == type_).unwrap();
        (found.status.clone(), found.reason.clone())
    };
    assert_eq!(of("Degraded"), ("True".into(), "SavepointFailed".into()));
    assert_eq!(of("Ready"), ("True".into(), "JobRunning".into()));
    // Also when its JobManager has forgotten the savepoint.
    let forgotten = deployed(&old, "uid-1-1", Some(running));
    assert_eq!(decide(&new, &told, &forgotten).state.hold, plan.state.hold);
    let again = decide(
        &wanted("savepoint", json!({"job": {"args": ["--newer"]}}), 3),
        &told,
        &forgotten,
    );
    assert_eq!(
        again.state.hold.as_ref().and_then(Hold::operation_id),
        Some("uid-1-3-stop")
    );
    assert!(matches!(again.state.hold, Some(Hold::Trigger { .. })));
}

#[test]
fn a_job_that_does_not_run_goes_on_from_its_newest_checkpoint_and_says_so() {
    let old = wanted("savepoint", json!({}), 1);
    let new = wanted("savepoint", changed(), 2);
    for state in ["RESTARTING", "FAILED", "CREATED"] {
        let job = with_checkpoint(pushed_job("uid-1-1", state));
        let plan = decide(
            &new,
            &started(&old, "uid-1-1"),
            &deployed(&old, "uid-1-1", Some(job)),
        );
        assert_eq!(plan.state.restore, source(&folder(), ClaimMode::Claim), "{state}");
        assert!(plan.state.note.unwrap().contains(state));
    }
    let job = pushed_job("uid-1-1", "RESTARTING");
    let plan = decide(
        &new,
        &started(&old, "uid-1-1"),
        &deployed(&old, "uid-1-1", Some(job)),
    );
    assert_eq!(plan.state.restore, None);
    assert!(
        plan.state
            .note
            .unwrap()
            .starts_with("nothing: there is no checkpoint")
    );
}

#[test]
fn last_state_goes_on_from_the_folder_of_the_newest_checkpoint_at_once() {
    let old = wanted("last-state", json!({}), 1);
    let new = wanted("last-state", changed(), 2);
    let status = started(&old, "uid-1-1");
    let job = with_checkpoint(pushed_job("uid-1-1", "RUNNING"));
    let facts = deployed(&old, "uid-1-1", Some(job));
    let plan = decide(&new, &status, &facts);
    assert_eq!(plan.job_manager, JobManagerAction::Apply);
    assert_eq!(plan.state.restore, source(&folder(), ClaimMode::Claim));
    let recorded = after(&new, &plan, &facts, &status);
    assert_eq!(recorded.job_status.as_ref().unwrap().checkpoint, None);
    assert_eq!(decide(&new, &recorded, &facts).state.restore, plan.state.restore);
    let resting = wanted("last-state", suspended(), 2);
    assert_eq!(
        decide(&resting, &status, &facts).state.upgrade,
        source(&folder(), ClaimMode::Claim)
    );
}

#[test]
fn before_its_first_checkpoint_a_job_goes_on_from_what_it_started_from() {
    let old = wanted("last-state", json!({}), 1);
    let mut status = started(&old, "uid-1-1");
    status.recovery.restore_path = Some("s3://b/other/chk-3".into());
    status.recovery.restore_claim_mode = Some(ClaimMode::NoClaim);
    let mut job = pushed_job("uid-1-1", "RUNNING");
    job.checkpoints = Some(PushedCheckpoints {
        latest_path: "s3://b/other/chk-3".into(),
        ..PushedCheckpoints::default()
    });
    let facts = deployed(&old, "uid-1-1", Some(job));
    let plan = decide(&wanted("last-state", changed(), 2), &status, &facts);
    assert_eq!(
        plan.state.restore,
        source("s3://b/other/chk-3", ClaimMode::NoClaim)
    );
}

#[test]
fn a_job_that_has_finished_begins_anew() {
    let old = wanted("savepoint", json!({}), 1);
    let job = with_checkpoint(pushed_job("uid-1-1", "FINISHED"));
    let plan = decide(
        &wanted("savepoint", changed(), 2),
        &started(&old, "uid-1-1"),
        &deployed(&old, "uid-1-1", Some(job)),
    );
    assert_eq!(
        (plan.job_manager, plan.state.restore),
        (JobManagerAction::Apply, None)
    );
}

#[test]
fn a_job_manager_that_does_not_answer_is_waited_for_unless_state_is_given_up() {
    let old = wanted("savepoint", json!({}), 1);
    let facts = deployed(&old, "uid-1-1", None);
    let status = started(&old, "uid-1-1");
    let plan = decide(&wanted("savepoint", changed(), 2), &status, &facts);
    assert_eq!(plan.state.hold, Some(Hold::Unanswered { operation_id: None }));
    let given_up = decide(&wanted("stateless", changed(), 2), &status, &facts);
    assert_eq!(given_up.job_manager, JobManagerAction::Apply);
    // One that can't run has no job any more.
    let mut broken = facts;
    broken.job_managers[0].running = false;
    let plan = decide(&wanted("savepoint", changed(), 2), &status, &broken);
    assert_eq!(plan.job_manager, JobManagerAction::Apply);
}

fn with_recorded_checkpoint(cluster: &Cluster) -> ClusterStatus {
    let mut status = started(cluster, "uid-1-1");
    status.job_status.as_mut().unwrap().checkpoint = Some(CheckpointStatus {
        id: 7,
        path: format!("{}/chk-7", folder()),
        ..CheckpointStatus::default()
    });
    status
}

#[test]
fn a_lost_deployment_goes_on_from_the_recorded_checkpoint() {
    let cluster = wanted("savepoint", json!({}), 1);
    let status = with_recorded_checkpoint(&cluster);
    let plan = decide(&cluster, &status, &Facts::default());
    assert_eq!(plan.operation_id.as_deref(), Some("uid-1-1"));
    assert_eq!(plan.state.restore, source(&folder(), ClaimMode::Claim));
    let recorded = after(&cluster, &plan, &Facts::default(), &status);
    assert_eq!(decide(&cluster, &recorded, &Facts::default()).state, plan.state);
    // Its new job has another id; it has what it needs.
    let mut job = pushed_job("uid-1-1", "RUNNING");
    job.job_id = "f".repeat(32);
    let plan = decide(&cluster, &recorded, &deployed(&cluster, "uid-1-1", Some(job)));
    assert_eq!((plan.goal, plan.job_manager), (Goal::Run, JobManagerAction::Keep));
}

#[test]
fn a_job_manager_that_lost_its_memory_is_replaced_by_one_that_goes_on_from_the_recorded_checkpoint() {
    let cluster = wanted("last-state", json!({}), 1);
    let status = with_recorded_checkpoint(&cluster);
    let mut job = pushed_job("uid-1-1", "RUNNING");
    job.job_id = "f".repeat(32);
    let facts = deployed(&cluster, "uid-1-1", Some(job));
    let plan = decide(&cluster, &status, &facts);
    assert_eq!(plan.job_manager, JobManagerAction::Delete);
    assert_eq!(plan.state.upgrade, source(&folder(), ClaimMode::Claim));
    let recorded = after(&cluster, &plan, &facts, &status);
    let start = decide(&cluster, &recorded, &Facts::default());
    assert_eq!(start.state.restore, source(&folder(), ClaimMode::Claim));
    // The same job under the same JobManager is left alone.
    let same = deployed(&cluster, "uid-1-1", Some(pushed_job("uid-1-1", "RUNNING")));
    assert_eq!(
        decide(&cluster, &status, &same).job_manager,
        JobManagerAction::Keep
    );
    // One that has ended stays ended.
    let mut finished = status;
    finished.job_status.as_mut().unwrap().state = Some(JobState::Finished);
    assert_eq!(decide(&cluster, &finished, &facts).goal, Goal::Ended);
}

#[test]
fn a_job_manager_that_is_still_going_is_waited_for_before_its_state_is_read() {
    let old = wanted("last-state", suspended(), 2);
    let mut status = started(&old, "uid-1-1");
    status.operation_id = None;
    status.job_manager_hash = None;
    status.job_status.as_mut().unwrap().upgrade_savepoint_path = Some(folder());
    status.recovery.upgrade_claim_mode = Some(ClaimMode::Claim);
    let resumed = wanted("last-state", json!({}), 3);
    let going = |since| Facts {
        job_managers: vec![PodFacts {
            name: "old".into(),
            running: true,
            deletion: Some(crate::testing::seconds_ago(since)),
            ..PodFacts::default()
        }],
        ..Facts::default()
    };
    let waiting = decide(&resumed, &status, &going(0));
    assert_eq!(
        (waiting.job_manager, waiting.create.len(), waiting.delete.len()),
        (JobManagerAction::Keep, 0, 0)
    );
    assert!(waiting.recheck_after.is_some());
    assert!(decide(&resumed, &status, &going(6)).delete[0].force);
    let recorded = after(&resumed, &waiting, &going(0), &status);
    let start = decide(&resumed, &recorded, &Facts::default());
    assert_eq!(start.job_manager, JobManagerAction::Apply);
    assert_eq!(start.operation_id.as_deref(), Some("uid-1-3"));
    assert_eq!(start.state.restore, source(&folder(), ClaimMode::Claim));
}

#[test]
fn a_job_that_ended_by_a_stop_whose_savepoint_is_unknown_does_not_begin_anew() {
    let old = wanted("savepoint", json!({}), 1);
    let mut status = with_recorded_checkpoint(&old);
    status.recovery.savepoint_operation_id = Some("uid-1-2-stop".into());
    status.job_status.as_mut().unwrap().state = Some(JobState::Finished);
    let plan = decide(&wanted("savepoint", changed(), 2), &status, &Facts::default());
    assert_eq!(plan.state.restore, source(&folder(), ClaimMode::Claim));
}

/// A cluster as it answers to plans: each write of the operator is one step, behind which the operator may end.
struct World {
    status: ClusterStatus,
    /// Its spec, operation, and what it restores from.
    job_manager: Option<(Cluster, String, Option<RestoreSource>)>,
    stops: Vec<String>,
    /// What was written so far, and behind which write the operator ends.
    writes: u32,
    ends_behind: u32,
}

impl World {
    fn facts(&self) -> Facts {
        let Some((cluster, operation_id, _)) = &self.job_manager else {
            return Facts::default();
        };
        let mut job = pushed_job(operation_id, "RUNNING");
        if operation_id == "uid-1-1"
            && let Some(stop) = self.stops.first()
        {
            job = with_stop(pushed_job(operation_id, "FINISHED"), stop, Some(Ok(SAVEPOINT)));
        }
        deployed(cluster, operation_id, Some(job))
    }

    /// Whether the operator ends here.
    fn wrote(&mut self) -> bool {
        self.writes += 1;
        self.writes == self.ends_behind
    }

    /// One pass, in the controller's order; whether nothing was left to do.
    fn pass(&mut self, cluster: &Cluster) -> bool {
        let (before, facts) = (self.status.clone(), self.facts());
        let plan = decide(cluster, &before, &facts);
        if let Some(intended) = cluster_intent(cluster, &plan, &before) {
            self.status = intended;
            if self.wrote() {
                return false;
            }
        }
        let acted = match plan.job_manager {
            JobManagerAction::Keep => false,
            JobManagerAction::Scale => panic!("the number of JobManagers stays"),
            JobManagerAction::Apply => {
                let operation_id = plan.operation_id.clone().unwrap();
                self.job_manager = Some((cluster.clone(), operation_id, plan.state.restore.clone()));
                true
            }
            JobManagerAction::Delete => {
                assert!(!self.stops.is_empty(), "a running job's JobManager goes");
                self.job_manager = None;
                true
            }
        };
        if acted && self.wrote() {
            return false;
        }
        if let Some(Hold::Trigger { operation_id, .. }) = &plan.state.hold {
            self.stops.push(operation_id.clone());
            if self.wrote() {
                return false;
            }
        }
        let status = after(cluster, &plan, &facts, &before);
        let settled = status == self.status && !acted && plan.state.hold.is_none();
        self.status = status;
        !self.wrote() && settled
    }

    fn settle(&mut self, cluster: &Cluster) {
        let settled = (0..20).any(|_| self.pass(cluster));
        assert!(settled, "it never settles: {:#?}", self.status);
    }
}

#[test]
fn an_operator_that_ends_behind_any_write_stops_once_and_restores_from_that_savepoint() {
    let first = wanted("savepoint", json!({}), 1);
    let other_spec = vec![wanted("savepoint", changed(), 2)];
    let suspended_and_resumed = vec![
        wanted("savepoint", suspended(), 2),
        wanted("savepoint", json!({"job": {"parallelism": 4}}), 3),
    ];
    let suspended_and_taken_back = vec![
        wanted("savepoint", suspended(), 2),
        wanted("savepoint", json!({}), 3),
    ];
    for wishes in [other_spec, suspended_and_resumed, suspended_and_taken_back] {
        for ends_behind in 0..30 {
            let mut world = World {
                status: started(&first, "uid-1-1"),
                job_manager: Some((first.clone(), "uid-1-1".into(), None)),
                stops: Vec::new(),
                writes: 0,
                ends_behind,
            };
            for wish in &wishes {
                world.settle(wish);
            }
            let (cluster, operation_id, restore) = world.job_manager.as_ref().unwrap();
            let newest = wishes.last().unwrap();
            assert_eq!(cluster.job_manager_hash(), newest.job_manager_hash());
            assert_eq!(operation_id, &format!("uid-1-{}", newest.generation));
            assert_eq!(restore, &source(SAVEPOINT, ClaimMode::NoClaim), "{ends_behind}");
            assert_eq!(world.stops, ["uid-1-2-stop"], "{ends_behind}");
            assert_eq!(world.status.recovery.savepoint_operation_id, None);
        }
    }
}

/// The spec is taken back behind any pass of a stop.
#[test]
fn a_change_that_is_taken_back_at_any_time_ends_in_a_running_job_with_its_state() {
    let first = wanted("savepoint", json!({}), 1);
    let mut back = first.clone();
    back.generation = 3;
    for passes in 0..6 {
        for ends_behind in 0..20 {
            let mut world = World {
                status: started(&first, "uid-1-1"),
                job_manager: Some((first.clone(), "uid-1-1".into(), None)),
                stops: Vec::new(),
                writes: 0,
                ends_behind,
            };
            for _ in 0..passes {
                world.pass(&wanted("savepoint", suspended(), 2));
            }
            world.settle(&back);
            let (_, operation_id, restore) = world.job_manager.as_ref().unwrap();
            if world.stops.is_empty() {
                assert_eq!((operation_id.as_str(), restore), ("uid-1-1", &None));
            } else {
                assert_eq!(operation_id, "uid-1-3");
                assert_eq!(restore, &source(SAVEPOINT, ClaimMode::NoClaim));
            }
        }
    }
}

fn redeploying(mode: &str, nonce: i64, generation: i64) -> Cluster {
    let job = json!({"job": {"initialSavepointPath": SAVEPOINT, "savepointRedeployNonce": nonce}});
    wanted(mode, job, generation)
}

#[test]
fn a_redeploy_nonce_that_is_there_at_the_first_start_is_acted_on_by_it() {
    let cluster = redeploying("last-state", 1, 1);
    let first = decide(&cluster, &ClusterStatus::default(), &Facts::default());
    assert_eq!(first.state.restore, source(SAVEPOINT, ClaimMode::NoClaim));
    assert_eq!(first.state.note, None, "there is no state to drop");
    let recorded = after(&cluster, &first, &Facts::default(), &ClusterStatus::default());
    assert_eq!(recorded.recovery.savepoint_redeploy_nonce, Some(1));
    let facts = deployed(&cluster, "uid-1-1", Some(pushed_job("uid-1-1", "RUNNING")));
    let next = decide(&cluster, &recorded, &facts);
    assert_eq!(next.job_manager, JobManagerAction::Keep);
}

#[test]
fn another_redeploy_nonce_drops_the_state_in_every_upgrade_mode() {
    for mode in ["stateless", "last-state", "savepoint"] {
        let old = redeploying(mode, 1, 1);
        let mut status = started(&old, "op");
        status.recovery.savepoint_redeploy_nonce = Some(1);
        let job = with_checkpoint(pushed_job("op", "RUNNING"));
        let facts = deployed(&old, "op", Some(job));
        let new = redeploying(mode, 2, 2);
        let plan = decide(&new, &status, &facts);
        assert_eq!(
            (plan.job_manager, plan.operation_id.as_deref(), plan.goal),
            (JobManagerAction::Apply, Some("uid-1-2"), Goal::Run)
        );
        assert_eq!(plan.state.restore, source(SAVEPOINT, ClaimMode::NoClaim));
        // Killed behind the record: the same start from the same savepoint.
        let intent = cluster_intent(&new, &plan, &status).unwrap();
        let again = decide(&new, &intent, &facts);
        assert_eq!(
            (again.job_manager, again.operation_id, again.state.restore),
            (JobManagerAction::Apply, plan.operation_id, plan.state.restore)
        );
    }
}

#[test]
fn a_suspended_job_is_redeployed_when_it_is_resumed() {
    let old = redeploying("savepoint", 1, 1);
    let mut status = started(&old, "op");
    status.operation_id = None;
    status.recovery.savepoint_redeploy_nonce = Some(1);
    status.recovery.upgrade_claim_mode = Some(ClaimMode::NoClaim);
    status.job_status.get_or_insert_default().upgrade_savepoint_path = Some("s3://b/sp/of-suspension".into());
    let plan = decide(&redeploying("savepoint", 2, 3), &status, &Facts::default());
    assert_eq!(plan.state.restore, source(SAVEPOINT, ClaimMode::NoClaim));
    let same = decide(&redeploying("savepoint", 1, 3), &status, &Facts::default());
    assert_eq!(
        same.state.restore,
        source("s3://b/sp/of-suspension", ClaimMode::NoClaim)
    );
}
