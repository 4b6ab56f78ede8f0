//! What is decided in which situation.

use serde_json::json;
use thalweg_crds::ClusterStatus;
use thalweg_proto::cluster::v1::TaskManagerStatus;
use thalweg_proto::control::v1::Failure;

use super::cleanup::{Ending, plan_cleanup, plan_ending};
use super::*;
use crate::observe::{DeploymentFacts, PodFacts};
use crate::testing::{cluster, now, pushed_job, seconds_ago, session_cluster, snapshot, status_of, view};

fn decide(cluster: &Cluster, status: &ClusterStatus, facts: &Facts) -> Plan {
    plan(cluster, status, facts, now())
}

fn deployed(cluster: &Cluster, operation_id: &str) -> Facts {
    Facts {
        deployment: Some(DeploymentFacts {
            hash: cluster.job_manager_hash(),
            operation_id: Some(operation_id.into()),
            ready: true,
            replicas: 1,
            ..DeploymentFacts::default()
        }),
        ..Facts::default()
    }
}

fn pod(cluster: &Cluster, ordinal: u32) -> PodFacts {
    PodFacts {
        name: format!("tm-{ordinal}"),
        uid: format!("uid-{ordinal}"),
        hash: cluster.task_manager_hash(),
        ordinal: Some(ordinal),
        running: true,
        ready: true,
        created: Some(seconds_ago(60)),
        ..PodFacts::default()
    }
}

fn names(deletions: &[PodDeletion]) -> Vec<&str> {
    deletions.iter().map(|deletion| deletion.name.as_str()).collect()
}

#[test]
fn a_new_application_gets_its_job_manager_and_task_managers_at_once() {
    let cluster = cluster(
        json!({"job": {"parallelism": 5}, "flinkConfiguration": {"taskmanager.numberOfTaskSlots": 2}}),
    );
    let plan = decide(&cluster, &ClusterStatus::default(), &Facts::default());
    assert_eq!(plan.job_manager, JobManagerAction::Apply);
    assert_eq!(plan.operation_id.as_deref(), Some("uid-1-1"));
    assert_eq!(plan.create, [0, 1, 2]);
}

#[test]
fn deciding_twice_decides_the_same() {
    let cluster = cluster(json!({}));
    let first = decide(&cluster, &ClusterStatus::default(), &Facts::default());
    let intended = status_of(&cluster, first.operation_id.as_deref().unwrap());
    assert_eq!(decide(&cluster, &intended, &Facts::default()), first);
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "op");
    facts.task_managers = vec![pod(&cluster, 0)];
    let plan = decide(&cluster, &status_of(&cluster, "op"), &facts);
    assert_eq!(plan.job_manager, JobManagerAction::Keep);
    assert_eq!(plan.operation_id.as_deref(), Some("op"));
    assert!(plan.create.is_empty() && plan.delete.is_empty());
}

#[test]
fn a_change_of_the_job_replaces_the_job_manager_only() {
    let before = cluster(json!({}));
    let mut after = cluster(json!({"job": {"args": ["--new"]}}));
    after.generation = 2;
    let mut facts = deployed(&before, "uid-1-1");
    facts.task_managers = vec![pod(&before, 0)];
    let plan = decide(&after, &status_of(&before, "uid-1-1"), &facts);
    assert_eq!(
        (plan.job_manager, plan.operation_id.as_deref()),
        (JobManagerAction::Apply, Some("uid-1-2"))
    );
    assert!(plan.create.is_empty() && plan.delete.is_empty());
}

#[test]
fn a_change_of_the_task_managers_replaces_only_them() {
    let before = cluster(json!({}));
    let after = cluster(json!({"taskManager": {"resource": {"memory": "2g"}}}));
    let mut facts = deployed(&before, "op");
    facts.task_managers = vec![pod(&before, 0)];
    let plan = decide(&after, &status_of(&before, "op"), &facts);
    assert_eq!(plan.job_manager, JobManagerAction::Keep);
    assert_eq!(
        (plan.create.as_slice(), names(&plan.delete)),
        ([0].as_slice(), vec!["tm-0"])
    );
}

#[test]
fn a_lost_deployment_comes_back_under_the_recorded_operation() {
    let cluster = cluster(json!({}));
    let plan = decide(&cluster, &status_of(&cluster, "recorded"), &Facts::default());
    assert_eq!(
        (plan.job_manager, plan.operation_id.as_deref()),
        (JobManagerAction::Apply, Some("recorded"))
    );
}

#[test]
fn a_deployment_that_is_going_is_waited_for() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "op");
    facts.deployment.as_mut().unwrap().deleting = true;
    assert_eq!(
        decide(&cluster, &ClusterStatus::default(), &facts).job_manager,
        JobManagerAction::Keep
    );
}

#[test]
fn a_suspended_application_has_no_pods_and_no_operation() {
    let cluster = cluster(json!({"job": {"state": "suspended"}}));
    let mut facts = deployed(&cluster, "op");
    facts.task_managers = vec![pod(&cluster, 0), pod(&cluster, 1)];
    let plan = decide(&cluster, &status_of(&cluster, "op"), &facts);
    assert_eq!(
        (plan.goal, plan.job_manager, plan.operation_id),
        (Goal::Suspended, JobManagerAction::Delete, None)
    );
    assert_eq!(plan.delete.len(), 2);
}

#[test]
fn an_application_that_is_resumed_starts_afresh() {
    let mut cluster = cluster(json!({}));
    cluster.generation = 3;
    let plan = decide(&cluster, &ClusterStatus::default(), &Facts::default());
    assert_eq!(plan.operation_id.as_deref(), Some("uid-1-3"));
}

#[test]
fn a_finished_job_keeps_its_job_manager_and_loses_its_task_managers() {
    let cluster = cluster(json!({}));
    for state in ["FINISHED", "FAILED", "CANCELED"] {
        let mut facts = deployed(&cluster, "op");
        facts.view = Some(view(snapshot(vec![pushed_job("op", state)])));
        facts.task_managers = vec![pod(&cluster, 0)];
        let plan = decide(&cluster, &status_of(&cluster, "op"), &facts);
        assert_eq!(
            (plan.goal, plan.job_manager),
            (Goal::Ended, JobManagerAction::Keep),
            "{state}"
        );
        assert_eq!(names(&plan.delete), ["tm-0"]);
    }
}

fn finished(cluster: &Cluster) -> ClusterStatus {
    let mut status = status_of(cluster, "op");
    status.job_status = Some(crate::status::job::pushed(&pushed_job("op", "FINISHED")));
    status
}

#[test]
fn a_finished_job_is_not_run_again_by_a_job_manager_that_forgot_it() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "op");
    facts.view = Some(view(snapshot(vec![pushed_job("op", "RUNNING")])));
    let plan = decide(&cluster, &finished(&cluster), &facts);
    assert_eq!(
        (plan.goal, plan.job_manager, plan.task_managers),
        (Goal::Ended, JobManagerAction::Delete, 0)
    );
    let without = decide(&cluster, &finished(&cluster), &Facts::default());
    assert_eq!(
        (without.goal, without.job_manager),
        (Goal::Ended, JobManagerAction::Keep)
    );
}

#[test]
fn a_finished_job_runs_again_after_a_change_of_its_spec() {
    let before = cluster(json!({}));
    let after = cluster(json!({"restartNonce": 7}));
    let plan = decide(&after, &finished(&before), &deployed(&before, "op"));
    assert_eq!(
        (plan.goal, plan.job_manager),
        (Goal::Run, JobManagerAction::Apply)
    );
}

#[test]
fn what_another_operations_job_says_counts_for_nothing() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "new");
    facts.view = Some(view(snapshot(vec![pushed_job("old", "FINISHED")])));
    assert_eq!(
        decide(&cluster, &status_of(&cluster, "new"), &facts).goal,
        Goal::Run
    );
}

#[test]
fn the_number_of_task_managers_is_corrected_when_the_graph_is_known() {
    let cluster = cluster(json!({"flinkConfiguration": {"taskmanager.numberOfTaskSlots": 2}}));
    let mut facts = deployed(&cluster, "op");
    let mut job = pushed_job("op", "CREATED");
    job.slots_required = 5;
    facts.view = Some(view(snapshot(vec![job])));
    facts.task_managers = vec![pod(&cluster, 0)];
    let plan = decide(&cluster, &status_of(&cluster, "op"), &facts);
    assert_eq!(
        (plan.slots_required, plan.task_managers, plan.create.as_slice()),
        (5, 3, [1, 2].as_slice())
    );
}

#[test]
fn surplus_task_managers_that_hold_slots_stay_unless_the_number_is_fixed() {
    let registered = |name: &str, free: u32| TaskManagerStatus {
        id: name.into(),
        slots: 1,
        free_slots: free,
        ..Default::default()
    };
    let task_managers = vec![
        registered("tm-0", 1),
        registered("tm-1", 0),
        registered("tm-2", 0),
    ];
    let pushed = ClusterSnapshotFixture(task_managers);
    for (spec, gone) in [
        (json!({}), vec!["tm-0"]),
        (json!({"taskManager": {"replicas": 1}}), vec!["tm-0", "tm-2"]),
    ] {
        let cluster = cluster(spec);
        let mut facts = deployed(&cluster, "op");
        facts.view = Some(view(pushed.with(vec![pushed_job("op", "RUNNING")])));
        facts.task_managers = (0..3).map(|ordinal| pod(&cluster, ordinal)).collect();
        assert_eq!(
            names(&decide(&cluster, &status_of(&cluster, "op"), &facts).delete),
            gone
        );
    }
}

struct ClusterSnapshotFixture(Vec<TaskManagerStatus>);

impl ClusterSnapshotFixture {
    fn with(&self, jobs: Vec<JobStatus>) -> ClusterSnapshot {
        ClusterSnapshot {
            task_managers: self.0.clone(),
            ..snapshot(jobs)
        }
    }
}

#[test]
fn a_session_has_as_many_task_managers_as_its_jobs_need_and_one_at_least() {
    let cluster = session_cluster(json!({}));
    assert_eq!(
        decide(&cluster, &ClusterStatus::default(), &Facts::default()).task_managers,
        1
    );
    let mut facts = deployed(&cluster, "op");
    facts.view = Some(view(snapshot(vec![
        pushed_job("a", "RUNNING"),
        pushed_job("b", "CREATED"),
        pushed_job("c", "FINISHED"),
    ])));
    assert_eq!(
        decide(&cluster, &ClusterStatus::default(), &facts).task_managers,
        2
    );
}

#[test]
fn a_pod_that_is_going_is_replaced_under_another_name() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "op");
    facts.task_managers = vec![PodFacts {
        deletion: Some(now()),
        ..pod(&cluster, 0)
    }];
    let plan = decide(&cluster, &status_of(&cluster, "op"), &facts);
    assert_eq!((plan.create.as_slice(), plan.delete.len()), ([1].as_slice(), 0));
    assert_eq!(plan.recheck_after, Some(Duration::from_secs(5)));
}

#[test]
fn a_pod_long_over_its_grace_is_deleted_by_force() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "op");
    facts.task_managers = vec![PodFacts {
        deletion: Some(seconds_ago(6)),
        ..pod(&cluster, 0)
    }];
    assert!(decide(&cluster, &status_of(&cluster, "op"), &facts).delete[0].force);
}

#[test]
fn an_ended_pod_is_replaced_but_not_in_a_tight_loop() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "op");
    let ended = |age| PodFacts {
        ended: true,
        created: Some(seconds_ago(age)),
        ..pod(&cluster, 0)
    };
    facts.task_managers = vec![ended(60)];
    let plan = decide(&cluster, &status_of(&cluster, "op"), &facts);
    assert_eq!(
        (names(&plan.delete), plan.create.as_slice()),
        (vec!["tm-0"], [1].as_slice())
    );
    facts.task_managers = vec![ended(4)];
    let plan = decide(&cluster, &status_of(&cluster, "op"), &facts);
    assert!(plan.delete.is_empty() && plan.create.is_empty());
    assert_eq!(plan.recheck_after, Some(Duration::from_secs(6)));
}

#[test]
fn an_application_that_cannot_become_a_job_holds_no_task_managers() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "op");
    let failure = Failure {
        class: FailureClass::Fatal.into(),
        message: "no package".into(),
        detail: String::new(),
    };
    facts.view = Some(view(ClusterSnapshot {
        application_failure: Some(failure),
        ..snapshot(vec![])
    }));
    facts.task_managers = vec![pod(&cluster, 0)];
    let plan = decide(&cluster, &status_of(&cluster, "op"), &facts);
    assert_eq!((plan.job_manager, plan.delete.len()), (JobManagerAction::Keep, 1));
}

#[test]
fn cleaning_up_deletes_everything_with_a_pod() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "op");
    facts.task_managers = vec![pod(&cluster, 0)];
    facts.job_managers = vec![pod(&cluster, 9)];
    let cleanup = plan_cleanup(&facts, now(), now());
    assert!(cleanup.delete_deployment && !cleanup.done);
    assert_eq!(names(&cleanup.delete), ["tm-0"]);
}

#[test]
fn cleaning_up_ends_when_no_pod_is_left_also_if_there_never_was_one() {
    assert!(plan_cleanup(&Facts::default(), now(), now()).done);
}

#[test]
fn a_pod_that_hangs_at_cleaning_up_is_forced() {
    let cluster = cluster(json!({}));
    let hanging = |since| Facts {
        job_managers: vec![PodFacts {
            deletion: Some(seconds_ago(since)),
            ..pod(&cluster, 0)
        }],
        ..Facts::default()
    };
    assert!(
        plan_cleanup(&hanging(4), seconds_ago(20), now())
            .delete
            .is_empty()
    );
    let cleanup = plan_cleanup(&hanging(5), seconds_ago(20), now());
    assert!(cleanup.delete[0].force && !cleanup.done);
}

#[test]
fn a_job_manager_pod_that_the_collector_leaves_is_deleted_by_us() {
    let cluster = cluster(json!({}));
    let facts = Facts {
        job_managers: vec![pod(&cluster, 0)],
        ..Facts::default()
    };
    assert!(plan_cleanup(&facts, seconds_ago(1), now()).delete.is_empty());
    assert_eq!(plan_cleanup(&facts, seconds_ago(6), now()).delete.len(), 1);
}

#[test]
fn a_deployment_of_another_resource_is_not_cleaned_up() {
    let cluster = cluster(json!({}));
    let mut facts = deployed(&cluster, "op");
    facts.deployment.as_mut().unwrap().foreign_owner = Some("FlinkSession wc".into());
    let cleanup = plan_cleanup(&facts, now(), now());
    assert!(!cleanup.delete_deployment && cleanup.done);
}

fn highly_available(replicas: u32) -> Cluster {
    cluster(json!({
        "jobManager": {"replicas": replicas},
        "flinkConfiguration": {"high-availability.type": "kubernetes", "high-availability.storageDir": "s3://b/ha"},
    }))
}

#[test]
fn another_number_of_standbys_replaces_no_job_manager() {
    let (before, after) = (highly_available(1), highly_available(2));
    assert_eq!(before.job_manager_hash(), after.job_manager_hash());
    let plan = decide(&after, &status_of(&before, "op"), &deployed(&before, "op"));
    assert_eq!(plan.job_manager, JobManagerAction::Scale);
    assert_eq!(plan.operation_id.as_deref(), Some("op"));
}

#[test]
fn high_availability_that_is_turned_on_is_another_start() {
    let before = cluster(json!({}));
    let plan = decide(
        &highly_available(2),
        &status_of(&before, "op"),
        &deployed(&before, "op"),
    );
    assert_eq!(plan.job_manager, JobManagerAction::Apply);
}

#[test]
fn jobs_with_a_log_in_storage_end_before_their_pods() {
    let cluster = highly_available(2);
    let with = |pushed: Option<Vec<thalweg_proto::cluster::v1::JobStatus>>| {
        let mut facts = deployed(&cluster, "op");
        let deployment = facts.deployment.as_mut().unwrap();
        deployment.high_availability = true;
        facts.job_managers = vec![pod(&cluster, 0)];
        facts.view = pushed.map(|jobs| view(snapshot(jobs)));
        facts
    };
    let soon = Duration::from_secs(1);
    let waits_with = |facts: &Facts| match plan_ending(facts, soon) {
        Ending::Wait { cancel, .. } => Some(cancel.len()),
        Ending::Go | Ending::Retire => None,
    };
    let jobs = |states: [&str; 2]| Some(states.map(|state| pushed_job("op", state)).to_vec());
    assert_eq!(waits_with(&with(jobs(["RUNNING", "FINISHED"]))), Some(1));
    let ended = with(jobs(["CANCELED", "FINISHED"]));
    assert_eq!(plan_ending(&ended, soon), Ending::Retire);
    assert_eq!(plan_ending(&ended, Duration::from_secs(60)), Ending::Go);
    assert_eq!(waits_with(&with(None)), Some(0), "its JobManager is asked first");
    let mut gone = with(None);
    gone.job_managers.clear();
    assert_eq!(waits_with(&gone), None);
    let running = with(jobs(["RUNNING", "RUNNING"]));
    assert_eq!(plan_ending(&running, Duration::from_secs(60)), Ending::Go);
    let mut alone = running;
    alone.deployment.as_mut().unwrap().high_availability = false;
    assert_eq!(plan_ending(&alone, soon), Ending::Go);
}
