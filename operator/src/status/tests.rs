//! What users read in which situation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;
use thalweg_crds::ClusterStatus;
use thalweg_proto::cluster::v1::{ClusterSnapshot, JobStatus};
use thalweg_proto::control::v1::{Failure, FailureClass};

use super::session_job::{Known, session_job_status};
use super::*;
use crate::observe::{DeploymentFacts, PodFacts, PodProblem};
use crate::plan::plan;
use crate::testing::{cluster, now, pushed_job, seconds_ago, session_cluster, snapshot, status_of, view};

/// A JobManager that runs as planned, and what it says.
fn facts(cluster: &Cluster, pushed: Option<ClusterSnapshot>) -> Facts {
    let hash = cluster.job_manager_hash();
    Facts {
        deployment: Some(DeploymentFacts {
            hash: hash.clone(),
            operation_id: Some("op".into()),
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
        task_managers: vec![task_manager(cluster, None)],
        view: pushed.map(view),
    }
}

fn task_manager(cluster: &Cluster, problem: Option<(&'static str, &str)>) -> PodFacts {
    PodFacts {
        name: "tm-0".into(),
        hash: cluster.task_manager_hash(),
        ordinal: Some(0),
        ready: problem.is_none(),
        problem: problem.map(|(reason, message)| PodProblem {
            reason,
            message: message.into(),
        }),
        ..PodFacts::default()
    }
}

fn judge_with(cluster: &Cluster, facts: &Facts, previous: &ClusterStatus) -> ClusterStatus {
    let plan = plan(cluster, previous, facts, now());
    cluster_status(cluster, &plan, facts, previous, now())
}

fn condition<'a>(status: &'a ClusterStatus, type_: &str) -> &'a Condition {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap()
}

fn assert_conditions(status: &ClusterStatus, ready: &str, progressing: &str, degraded: &str) {
    let all = ["Ready", "Progressing", "Degraded"].map(|type_| condition(status, type_).status.as_str());
    assert_eq!(all, [ready, progressing, degraded], "{status:#?}");
}

fn failing(state: &str, message: &str) -> JobStatus {
    JobStatus {
        last_failure: Some(Failure {
            class: FailureClass::Retryable.into(),
            message: message.into(),
            detail: String::new(),
        }),
        ..pushed_job("op", state)
    }
}

#[test]
fn a_running_job_is_ready_and_stable() {
    let cluster = cluster(json!({}));
    let facts = facts(&cluster, Some(snapshot(vec![pushed_job("op", "RUNNING")])));
    let status = judge_with(&cluster, &facts, &status_of(&cluster, "op"));
    assert_eq!(status.lifecycle_state, Some(LifecycleState::Stable));
    assert_conditions(&status, "True", "False", "False");
    assert_eq!(status.error, None);
    let job = status.job_status.unwrap();
    assert_eq!(
        (job.job_name.as_deref(), job.state),
        (Some("word count"), Some(JobState::Running))
    );
    assert_eq!(
        status.slots,
        Some(SlotStatus {
            required: 1,
            total: 2,
            available: 1
        })
    );
    assert_eq!(status.task_manager.unwrap().replicas, 1);
    assert_eq!(status.observed_generation, Some(1));
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(1))
    );
}

#[test]
fn a_first_start_is_created_then_deployed() {
    let cluster = cluster(json!({}));
    let first = judge_with(&cluster, &Facts::default(), &ClusterStatus::default());
    assert_eq!(first.lifecycle_state, Some(LifecycleState::Created));
    assert_eq!(
        first.job_manager_deployment_status,
        Some(JobManagerDeploymentStatus::Deploying)
    );
    assert_conditions(&first, "False", "True", "False");
    let next = judge_with(&cluster, &facts(&cluster, Some(snapshot(vec![]))), &first);
    assert_eq!(next.lifecycle_state, Some(LifecycleState::Deployed));
    assert_eq!(next.job_status.unwrap().state, Some(JobState::Initializing));
}

#[test]
fn a_changed_spec_is_upgrading_until_the_new_job_manager_answers() {
    let before = cluster(json!({}));
    let running = facts(&before, Some(snapshot(vec![pushed_job("op", "RUNNING")])));
    let status = judge_with(&before, &running, &status_of(&before, "op"));
    let mut after = cluster(json!({"job": {"args": ["x"]}}));
    after.generation = 2;
    let upgrading = judge_with(&after, &running, &status);
    assert_eq!(upgrading.lifecycle_state, Some(LifecycleState::Upgrading));
    assert_eq!(
        upgrading.job_status.as_ref().unwrap().state,
        Some(JobState::Reconciling)
    );
    assert_conditions(&upgrading, "False", "True", "False");
}

#[test]
fn a_suspended_application_is_neither_ready_nor_degraded() {
    let cluster = cluster(json!({"job": {"state": "suspended"}}));
    let status = judge_with(&cluster, &Facts::default(), &ClusterStatus::default());
    assert_eq!(status.lifecycle_state, Some(LifecycleState::Suspended));
    assert_eq!(
        status.job_status.as_ref().unwrap().state,
        Some(JobState::Suspended)
    );
    assert_eq!(status.operation_id, None);
    assert_conditions(&status, "False", "False", "False");
}

#[test]
fn a_finished_job_stays_finished_whatever_its_job_manager_says_later() {
    let cluster = cluster(json!({}));
    let finished = facts(&cluster, Some(snapshot(vec![pushed_job("op", "FINISHED")])));
    let status = judge_with(&cluster, &finished, &status_of(&cluster, "op"));
    assert_conditions(&status, "True", "False", "False");
    let again = facts(&cluster, Some(snapshot(vec![pushed_job("op", "RUNNING")])));
    let later = judge_with(&cluster, &again, &status);
    assert_eq!(later.job_status, status.job_status);
}

#[test]
fn a_failed_job_shows_its_failure() {
    let cluster = cluster(json!({}));
    let facts = facts(
        &cluster,
        Some(snapshot(vec![failing("FAILED", "topic \"in\" is missing")])),
    );
    let status = judge_with(&cluster, &facts, &status_of(&cluster, "op"));
    assert_eq!(status.lifecycle_state, Some(LifecycleState::Failed));
    assert_eq!(status.error.as_deref(), Some("topic \"in\" is missing"));
    assert_conditions(&status, "False", "False", "True");
}

#[test]
fn a_restarting_job_is_degraded_and_one_that_runs_again_is_not() {
    let cluster = cluster(json!({}));
    let restarting = facts(
        &cluster,
        Some(snapshot(vec![failing("RESTARTING", "worker lost")])),
    );
    let status = judge_with(&cluster, &restarting, &status_of(&cluster, "op"));
    assert_eq!(status.error.as_deref(), Some("worker lost"));
    assert_conditions(&status, "False", "True", "True");
    let again = facts(&cluster, Some(snapshot(vec![failing("RUNNING", "worker lost")])));
    let status = judge_with(&cluster, &again, &status);
    assert_eq!(status.error, None);
    assert_eq!(
        status.job_status.as_ref().unwrap().last_failure.as_deref(),
        Some("worker lost")
    );
    assert_conditions(&status, "True", "False", "False");
}

#[test]
fn an_application_without_a_package_has_failed_and_says_so() {
    let cluster = cluster(json!({}));
    let failure = Failure {
        class: FailureClass::Fatal.into(),
        message: "/opt/wc does not exist".into(),
        detail: String::new(),
    };
    let pushed = ClusterSnapshot {
        application_failure: Some(failure),
        ..snapshot(vec![])
    };
    let status = judge_with(
        &cluster,
        &facts(&cluster, Some(pushed)),
        &status_of(&cluster, "op"),
    );
    assert_eq!(status.lifecycle_state, Some(LifecycleState::Failed));
    assert_eq!(status.error.as_deref(), Some("/opt/wc does not exist"));
    assert_eq!(condition(&status, "Degraded").reason, "ApplicationFailed");
}

#[test]
fn a_job_manager_that_cannot_run_says_why() {
    let cluster = cluster(json!({}));
    let mut facts = facts(&cluster, None);
    let problem = PodProblem {
        reason: "ImagePullError",
        message: "image \"x\" can't be pulled: not found".into(),
    };
    facts.job_managers[0] = PodFacts {
        problem: Some(problem),
        ready: false,
        running: false,
        ..facts.job_managers[0].clone()
    };
    let status = judge_with(&cluster, &facts, &status_of(&cluster, "op"));
    assert!(
        status
            .error
            .as_deref()
            .unwrap()
            .contains("can't be pulled: not found")
    );
    assert_eq!(
        status.job_manager_deployment_status,
        Some(JobManagerDeploymentStatus::Error)
    );
    assert_eq!(condition(&status, "Ready").reason, "ImagePullError");
    assert_conditions(&status, "False", "True", "True");
}

#[test]
fn a_job_manager_that_may_not_be_made_says_why() {
    let cluster = cluster(json!({}));
    let mut facts = facts(&cluster, None);
    facts.job_managers.clear();
    facts.deployment.as_mut().unwrap().problem = Some("exceeded quota".into());
    let status = judge_with(&cluster, &facts, &status_of(&cluster, "op"));
    assert_eq!(
        status.error.as_deref(),
        Some("the JobManager's pod: exceeded quota")
    );
}

#[test]
fn too_few_slots_say_how_many_and_why() {
    let cluster = cluster(json!({}));
    let waiting = JobStatus {
        waiting_for: "2 of 4 slots".into(),
        ..pushed_job("op", "CREATED")
    };
    let mut facts = facts(&cluster, Some(snapshot(vec![waiting])));
    let status = judge_with(&cluster, &facts, &status_of(&cluster, "op"));
    assert_eq!(
        (
            status.error.as_deref(),
            condition(&status, "Degraded").reason.as_str()
        ),
        (Some("2 of 4 slots"), "NoSlots")
    );
    facts.task_managers = vec![task_manager(
        &cluster,
        Some(("Unschedulable", "0/1 nodes are available")),
    )];
    let status = judge_with(&cluster, &facts, &status_of(&cluster, "op"));
    assert_eq!(
        status.error.as_deref(),
        Some("2 of 4 slots; 0/1 nodes are available")
    );
    assert_eq!(condition(&status, "Degraded").reason, "Unschedulable");
}

#[test]
fn task_managers_on_their_way_are_no_error() {
    let cluster = cluster(json!({}));
    let waiting = JobStatus {
        waiting_for: "0 of 1 slots".into(),
        ..pushed_job("op", "CREATED")
    };
    let mut facts = facts(&cluster, Some(snapshot(vec![waiting])));
    facts.task_managers[0].ready = false;
    assert_eq!(
        judge_with(&cluster, &facts, &status_of(&cluster, "op")).error,
        None
    );
}

#[test]
fn an_invalid_spec_leaves_what_runs_as_it_is() {
    let cluster = cluster(json!({}));
    let facts = facts(&cluster, Some(snapshot(vec![pushed_job("op", "RUNNING")])));
    let running = judge_with(&cluster, &facts, &status_of(&cluster, "op"));
    let problem = Problem::fatal("ValidationError", "spec.image: is wrong");
    let status = cluster_failure(&running, 2, &problem, now());
    assert_eq!(status.lifecycle_state, Some(LifecycleState::Stable));
    assert_eq!(status.job_status, running.job_status);
    assert_eq!(condition(&status, "Degraded").observed_generation, Some(2));
    assert_conditions(&status, "True", "False", "True");
}

#[test]
fn an_invalid_spec_that_never_ran_has_failed() {
    let problem = Problem::fatal("ValidationError", "spec.image: is wrong");
    let status = cluster_failure(&ClusterStatus::default(), 1, &problem, now());
    assert_eq!(status.lifecycle_state, Some(LifecycleState::Failed));
    assert_conditions(&status, "False", "False", "True");
    let passing = Problem::passing("ApplyFailed", "quota");
    let retried = cluster_failure(&ClusterStatus::default(), 1, &passing, now());
    assert_eq!(retried.lifecycle_state, Some(LifecycleState::Created));
    assert_conditions(&retried, "False", "True", "True");
}

#[test]
fn a_transition_time_changes_only_with_its_status() {
    let cluster = cluster(json!({}));
    let facts = facts(&cluster, Some(snapshot(vec![pushed_job("op", "RUNNING")])));
    let plan = plan(&cluster, &status_of(&cluster, "op"), &facts, now());
    let earlier = cluster_status(
        &cluster,
        &plan,
        &facts,
        &status_of(&cluster, "op"),
        seconds_ago(100),
    );
    let later = cluster_status(&cluster, &plan, &facts, &earlier, now());
    assert_eq!(later, earlier);
}

#[test]
fn a_session_is_ready_when_its_job_manager_answers() {
    let cluster = session_cluster(json!({}));
    let status = judge_with(&cluster, &facts(&cluster, None), &status_of(&cluster, "op"));
    assert_conditions(&status, "False", "True", "False");
    assert_eq!(status.job_status, None);
    let status = judge_with(&cluster, &facts(&cluster, Some(snapshot(vec![]))), &status);
    assert_eq!(status.lifecycle_state, Some(LifecycleState::Stable));
    assert_conditions(&status, "True", "False", "False");
}

#[test]
fn a_session_jobs_refused_submission_is_its_end() {
    let refused = thalweg_crds::JobStatus {
        state: Some(JobState::Failed),
        last_failure: Some("not a package".into()),
        ..Default::default()
    };
    let known = Known {
        job: refused,
        operation_id: Some("op".into()),
        ..Known::default()
    };
    let status = session_job_status(&known, &Default::default(), 1, now());
    assert_eq!(status.lifecycle_state, Some(LifecycleState::Failed));
    assert_eq!(status.error.as_deref(), Some("not a package"));
}

#[test]
fn a_session_job_that_waits_for_slots_says_so() {
    let waiting = JobStatus {
        waiting_for: "1 of 2 slots".into(),
        slots_required: 2,
        slots_held: 1,
        ..pushed_job("op", "CREATED")
    };
    let known = Known {
        pushed: Some(&waiting),
        operation_id: Some("op".into()),
        ..Known::default()
    };
    let status = session_job_status(&known, &Default::default(), 1, now());
    assert_eq!(
        (status.error.as_deref(), status.slots),
        (
            Some("1 of 2 slots"),
            Some(thalweg_crds::JobSlotStatus { required: 2, held: 1 })
        )
    );
}

#[test]
fn the_newest_checkpoint_of_the_jobs_own_is_shown_and_outlives_its_job_manager() {
    let cluster = cluster(json!({}));
    let with = |path: &str| {
        let mut job = pushed_job("op", "RUNNING");
        job.checkpoints = Some(thalweg_proto::cluster::v1::CheckpointStatus {
            latest_id: 3,
            latest_path: path.into(),
            latest_completed_ms: 1_800_000_000_000,
            latest_size: 4096,
            ..Default::default()
        });
        facts(&cluster, Some(snapshot(vec![job])))
    };
    let own = "s3://b/c/0123456789abcdef0123456789abcdef/chk-3";
    let status = judge_with(&cluster, &with(own), &status_of(&cluster, "op"));
    let shown = serde_json::to_value(&status.job_status.as_ref().unwrap().checkpoint).unwrap();
    assert_eq!(
        shown,
        json!({"id": 3, "path": own, "completedTime": "2027-01-15T08:00:00Z", "sizeBytes": 4096})
    );
    assert_eq!(status.recovery.job_started, Some(true));
    let later = judge_with(&cluster, &facts(&cluster, None), &status);
    assert_eq!(
        later.job_status.unwrap().checkpoint,
        status.job_status.unwrap().checkpoint
    );
    let restored = judge_with(
        &cluster,
        &with("s3://b/sp/savepoint-1"),
        &status_of(&cluster, "op"),
    );
    assert_eq!(restored.job_status.unwrap().checkpoint, None);
}

/// What status and events say when `pod` leads with this epoch.
fn led(previous: &ClusterStatus, leader: Option<(&str, u64)>) -> ClusterStatus {
    let cluster = cluster(json!({
        "jobManager": {"replicas": 2},
        "flinkConfiguration": {"high-availability.type": "kubernetes", "high-availability.storageDir": "s3://b/ha"},
    }));
    let mut facts = facts(&cluster, Some(snapshot(vec![pushed_job("op", "RUNNING")])));
    facts.deployment.as_mut().unwrap().high_availability = true;
    facts.job_managers.push(facts.job_managers[0].clone());
    facts.view.as_mut().unwrap().leader = leader.map(|(pod, epoch)| crate::cluster_watch::Leader {
        pod: pod.into(),
        epoch,
    });
    judge_with(&cluster, &facts, previous)
}

#[test]
fn the_leader_is_told_and_another_one_is_an_event() {
    let reasons = |before: &ClusterStatus, after: &ClusterStatus| {
        let events = crate::events::transitions(before.into(), after.into());
        let leads = |event: &&kube::runtime::events::Event| event.reason == crate::events::LEADER_CHANGED;
        events
            .iter()
            .filter(leads)
            .filter_map(|event| event.note.clone())
            .collect::<Vec<_>>()
    };
    let first = led(&ClusterStatus::default(), Some(("jm-a", 3)));
    let told = first.job_manager.clone().unwrap();
    assert_eq!(
        (told.leader.as_deref(), told.epoch, told.replicas),
        (Some("jm-a"), Some(3), 2)
    );
    assert!(reasons(&ClusterStatus::default(), &first).is_empty());
    // Nobody was heard since: the one before stays until there is another.
    let silent = led(&first, None);
    assert_eq!(silent.job_manager, first.job_manager);
    let second = led(&silent, Some(("jm-b", 4)));
    assert!(reasons(&silent, &second)[0].contains("jm-b leads now with epoch 4"));
    let again = led(&second, Some(("jm-b", 5)));
    assert!(reasons(&second, &again)[0].contains("jm-b has started again"));
}

#[test]
fn a_job_manager_alone_has_no_leader() {
    let cluster = cluster(json!({}));
    let facts = facts(&cluster, Some(snapshot(vec![pushed_job("op", "RUNNING")])));
    assert_eq!(
        judge_with(&cluster, &facts, &ClusterStatus::default()).job_manager,
        None
    );
}
