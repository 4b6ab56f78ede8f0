//! What pods and Deployments mean.

#![allow(clippy::needless_pass_by_value)] // `json!(...)` reads better at the call without `&`

use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "wc-taskmanager-0", "uid": "u1", "labels": {
            "app.kubernetes.io/component": "taskmanager", "thalweg.dev/spec-hash": "h", "thalweg.dev/ordinal": "3",
        }},
        "status": status,
    }))
    .unwrap()
}

fn problem(status: Value) -> PodProblem {
    pod_facts(&pod(status)).problem.expect("a problem")
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{
        "name": "flink-main-container", "image": "registry/none:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }]})
}

#[test]
fn a_pod_tells_its_hash_ordinal_and_address() {
    let facts = pod_facts(&pod(json!({"phase": "Running", "podIP": "10.0.0.9",
        "conditions": [{"type": "Ready", "status": "True"}]})));
    assert_eq!(
        (facts.hash.as_str(), facts.ordinal, facts.ip.as_deref()),
        ("h", Some(3), Some("10.0.0.9"))
    );
    assert!(facts.ready && facts.running && facts.alive() && facts.problem.is_none());
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_with_the_registrys_answer() {
    for reason in [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
    ] {
        let found = problem(waiting(reason, "not found"));
        assert_eq!(found.reason, "ImagePullError");
        assert!(
            found.message.contains("registry/none:1") && found.message.ends_with("not found"),
            "{found:?}"
        );
    }
}

#[test]
fn a_try_to_pull_and_the_wait_for_the_next_read_the_same() {
    let backing_off = waiting(
        "ImagePullBackOff",
        "Back-off pulling image \"registry/none:1\": ErrImagePull: rpc error: not found",
    );
    assert_eq!(
        problem(backing_off),
        problem(waiting("ErrImagePull", "rpc error: not found"))
    );
}

#[test]
fn a_container_that_runs_again_and_is_not_ready_still_shows_its_crash() {
    let status = |ready: bool| {
        json!({"phase": "Running", "containerStatuses": [{
            "name": "flink-main-container", "image": "i", "imageID": "", "ready": ready, "restartCount": 2,
            "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 2, "message": "bad key"}},
        }]})
    };
    assert!(problem(status(false)).message.ends_with("bad key"));
    assert_eq!(pod_facts(&pod(status(true))).problem, None);
}

#[test]
fn a_crash_loop_shows_the_last_log_line() {
    let found = problem(json!({"phase": "Running", "containerStatuses": [{
        "name": "flink-main-container", "image": "i", "imageID": "", "ready": false, "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "starting\nport 6123 is taken\n\n"}},
    }]}));
    assert_eq!(found.reason, "CrashLoop");
    assert!(
        found
            .message
            .contains("exit code 1, restarted 4 times: port 6123 is taken"),
        "{found:?}"
    );
}

#[test]
fn a_container_killed_for_memory_says_so() {
    let found = problem(json!({"phase": "Running", "containerStatuses": [{
        "name": "flink-main-container", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }]}));
    assert_eq!(found.reason, "ContainerEnded");
    assert!(found.message.contains("more memory than its limit"), "{found:?}");
}

#[test]
fn a_container_that_cannot_start_says_why() {
    let found = problem(waiting("CreateContainerConfigError", "secret \"s\" not found"));
    assert_eq!(found.reason, "StartError");
    assert!(found.message.contains("secret \"s\" not found"));
}

#[test]
fn a_pod_that_no_node_takes_says_what_the_scheduler_said() {
    let found = problem(json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }]}));
    assert_eq!(found.reason, "Unschedulable");
    assert!(found.message.contains("Insufficient cpu"));
}

#[test]
fn an_evicted_pod_has_ended_and_says_why() {
    let facts = pod_facts(&pod(
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"}),
    ));
    assert!(facts.ended && !facts.alive());
    assert!(
        facts
            .problem
            .unwrap()
            .message
            .contains("Evicted: The node was low on memory")
    );
}

#[test]
fn a_starting_pod_has_no_problem() {
    assert_eq!(pod_facts(&pod(waiting("ContainerCreating", ""))).problem, None);
}

#[test]
fn a_deployment_of_another_resource_is_recognised() {
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "x-jobmanager", "ownerReferences": [{
            "apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkSession", "name": "x", "uid": "other", "controller": true,
        }]},
    }))
    .unwrap();
    let facts = observe("mine", Some(&deployment), &[], None);
    assert_eq!(
        facts.deployment.unwrap().foreign_owner.as_deref(),
        Some("FlinkSession x")
    );
}

#[test]
fn a_deployment_that_may_make_no_pods_says_why() {
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "x-jobmanager"},
        "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods=0"}]},
    }))
    .unwrap();
    let facts = observe("mine", Some(&deployment), &[], None);
    assert_eq!(
        facts.deployment.unwrap().problem.as_deref(),
        Some("exceeded quota: pods=0")
    );
}

fn job_manager_pod(name: &str, ip: &str, ready: bool) -> PodFacts {
    PodFacts {
        name: name.into(),
        uid: format!("uid-{name}"),
        hash: "h".into(),
        ip: Some(ip.into()),
        running: true,
        ready,
        ..PodFacts::default()
    }
}

fn with_job_managers(high_availability: bool) -> Facts {
    Facts {
        deployment: Some(DeploymentFacts {
            hash: "h".into(),
            operation_id: Some("op".into()),
            high_availability,
            ..DeploymentFacts::default()
        }),
        job_managers: vec![
            job_manager_pod("a", "10.0.0.1", true),
            job_manager_pod("b", "fd00::1", true),
            PodFacts {
                ended: true,
                ..job_manager_pod("c", "10.0.0.3", true)
            },
        ],
        ..Facts::default()
    }
}

#[test]
fn all_job_managers_that_elect_a_leader_are_followed_and_else_one() {
    let all = with_job_managers(true).job_managers_to_follow().unwrap();
    let addresses: Vec<&str> = all.candidates.iter().map(|one| one.address.as_str()).collect();
    assert_eq!(addresses, ["http://10.0.0.1:6123", "http://[fd00::1]:6123"]);
    assert!(all.elected);
    let mut fewer = with_job_managers(true);
    fewer.job_managers.remove(0);
    assert_eq!(
        fewer.job_managers_to_follow().unwrap().incarnation,
        all.incarnation
    );

    let one = with_job_managers(false).job_managers_to_follow().unwrap();
    assert_eq!((one.candidates.len(), one.elected), (1, false));
    assert_eq!(one.incarnation, format!("uid-{}", one.candidates[0].pod));
    assert_eq!(Facts::default().job_managers_to_follow(), None);
}

#[test]
fn the_leader_speaks_for_the_cluster_also_while_a_standby_crashes() {
    let mut facts = with_job_managers(true);
    for leader in ["a", "b"] {
        facts.view = Some(View {
            leader: Some(crate::cluster_watch::Leader {
                pod: leader.into(),
                epoch: 1,
            }),
            ..View::default()
        });
        assert_eq!(facts.current_job_manager().unwrap().name, leader);
    }
    facts.view = None;
    facts.job_managers[1].ready = false;
    assert_eq!(facts.current_job_manager().unwrap().name, "a");
}
