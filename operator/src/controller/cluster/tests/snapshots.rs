//! Snapshots that an application asks for: by nonces, by intervals, by stops, at its end.

use thalweg_crds::FlinkStateSnapshot;
use thalweg_proto::cluster::v1::JobStatus as PushedJob;

use super::*;
use crate::snapshot_index::SnapshotIndex;
use crate::testing::server::{Kill, Server};
use crate::testing::{plain_context, state_snapshot};

const SNAPSHOTS: &str = "/flinkstatesnapshots";
const MANUAL: &str = "wc-savepoint-manual-1800000000000";

/// An application that runs as generation 1, with what it is asked for; its objects.
fn asking(change: Value, status: Value) -> (FlinkApplication, Value, Vec<Value>) {
    let mut spec = json!({"flinkConfiguration": {
        "execution.checkpointing.dir": "s3://b/c", "execution.checkpointing.savepoint-dir": "s3://b/sp",
    }});
    merge(&mut spec, change);
    let mut application = application(spec);
    let cluster = validated(&application).unwrap();
    let (deployment, job_manager) = job_manager_objects(&cluster, "uid-1-1", running());
    let pods = vec![job_manager, task_manager_pod(&cluster, 0, running())];
    let mut all = json!({
        "observedGeneration": 1, "operationId": "uid-1-1", "jobManagerHash": cluster.job_manager_hash(),
        "lifecycleState": "STABLE", "jobStarted": true,
        "jobStatus": {"state": "RUNNING", "jobId": "0123456789abcdef0123456789abcdef"},
    });
    merge(&mut all, status);
    with_status(&mut application, all);
    (application, deployment, pods)
}

fn by_nonce(status: Value) -> (FlinkApplication, Value, Vec<Value>) {
    asking(json!({"job": {"savepointTriggerNonce": 2}}), status)
}

fn runs() -> ClusterWatches {
    says(pushed_job("uid-1-1", "RUNNING"))
}

#[tokio::test]
async fn another_nonce_is_recorded_with_the_snapshots_name_before_that_is_created() {
    let (application, deployment, pods) = by_nonce(json!({"snapshots": {"savepointTriggerNonce": 1}}));
    let script = begins(&application, deployment, pods)
        .expect_surroundings("wc")
        .expect("PATCH", status_path(), Reply::Resource)
        .expect("POST", SNAPSHOTS, Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, runs(), script).await;
    outcome.unwrap();
    let writes: Vec<&Value> = played
        .requests
        .iter()
        .filter(|seen| seen.path.ends_with(status_path()))
        .map(|seen| &seen.body["status"]["snapshots"])
        .collect();
    assert_eq!(
        (
            &writes[0]["savepointTriggerNonce"],
            &writes[0]["pending"][0]["name"]
        ),
        (&json!(2), &json!(MANUAL))
    );
    assert_eq!(writes[1], &json!({"savepointTriggerNonce": 2}));
    let made = played.body("POST", SNAPSHOTS);
    assert_eq!(made["metadata"]["name"], MANUAL);
    assert_eq!(
        made["metadata"]["labels"],
        json!({
            "snapshot.type": "SAVEPOINT", "snapshot.trigger-type": "MANUAL", "snapshot.state": "TRIGGER_PENDING",
            "job-reference.kind": "FlinkApplication", "job-reference.name": "wc",
            "app.kubernetes.io/managed-by": "thalweg-operator",
        })
    );
    assert_eq!(made["metadata"]["annotations"]["thalweg.dev/trigger-nonce"], "2");
    assert_eq!(made["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(
        made["spec"]["jobReference"],
        json!({"kind": "FlinkApplication", "name": "wc"})
    );
    assert_eq!(made["spec"]["savepoint"]["disposeOnDelete"], false);
}

/// The operator ended after the record, or after the creation: the same snapshot is made, or is there.
#[tokio::test]
async fn a_recorded_snapshot_is_created_by_whoever_comes_next_and_once() {
    for answer in [Reply::Echo, Reply::Error(409, "AlreadyExists", "there")] {
        let pending =
            json!({"name": MANUAL, "snapshotType": "SAVEPOINT", "triggerType": "MANUAL", "triggerNonce": 2});
        let (application, deployment, pods) =
            by_nonce(json!({"snapshots": {"savepointTriggerNonce": 2, "pending": [pending]}}));
        let script = begins(&application, deployment, pods)
            .expect_surroundings("wc")
            .expect("PATCH", status_path(), Reply::Resource)
            .expect("POST", SNAPSHOTS, answer)
            .expect("PATCH", status_path(), Reply::Resource);
        let (outcome, played) = once(&application, runs(), script).await;
        outcome.unwrap();
        assert_eq!(played.body("POST", SNAPSHOTS)["metadata"]["name"], MANUAL);
        let status = &played.body("PATCH", status_path())["status"];
        assert_eq!(status["snapshots"], json!({"savepointTriggerNonce": 2}));
    }
}

#[tokio::test]
async fn a_snapshot_that_can_not_be_created_stays_recorded_and_is_told() {
    let (application, deployment, pods) = by_nonce(json!({}));
    let script = begins(&application, deployment, pods)
        .expect_surroundings("wc")
        .expect("PATCH", status_path(), Reply::Resource)
        .expect("POST", SNAPSHOTS, Reply::Error(403, "Forbidden", "no rights"))
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, runs(), script).await;
    assert_eq!(outcome.unwrap_err().reason(), "ApplyFailed");
    let status = &played.body("PATCH", status_path())["status"];
    assert_eq!(status["snapshots"]["pending"][0]["name"], MANUAL);
    assert!(status["error"].as_str().unwrap().contains("no rights"));
}

#[tokio::test]
async fn a_nonce_that_is_there_from_the_start_asks_for_nothing() {
    let mut application = application(json!({
        "job": {"savepointTriggerNonce": 7},
        "flinkConfiguration": {"execution.checkpointing.savepoint-dir": "s3://b/sp"},
    }));
    application.status = None;
    let script = Script::new(&application)
        .expect("GET", "/flinkapplications/wc", Reply::Resource)
        .expect_reads("wc", NOT_FOUND, vec![])
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_surroundings("wc")
        .expect("PATCH", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("POST", "/pods", Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, ClusterWatches::new(), script).await;
    outcome.unwrap();
    for write in played
        .requests
        .iter()
        .filter(|seen| seen.path.ends_with(status_path()))
    {
        assert_eq!(
            write.body["status"]["snapshots"],
            json!({"savepointTriggerNonce": 7})
        );
    }
}

#[tokio::test]
async fn a_periodic_savepoint_is_made_when_it_is_due_and_the_surplus_goes() {
    let hourly = json!({"flinkConfiguration": {
        "kubernetes.operator.periodic.savepoint.interval": "1 h",
        "kubernetes.operator.savepoint.history.max.count": "1",
        "kubernetes.operator.savepoint.dispose-on-delete": "true",
    }});
    let last = seconds_ago(3700).to_string();
    let (application, deployment, pods) = asking(
        hourly,
        json!({"snapshots": {"lastPeriodicSavepointTimestamp": last}}),
    );
    let script = begins(&application, deployment, pods)
        .expect_surroundings("wc")
        .expect("PATCH", status_path(), Reply::Resource)
        .expect("POST", SNAPSHOTS, Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect(
            "DELETE",
            "/flinkstatesnapshots/old",
            Reply::Json(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})),
        );
    let history = SnapshotIndex::holding(vec![periodic("new", 10), periodic("old", 7200)]);
    let application = Arc::new(application);
    let (outcome, played) = script
        .play(async move |client| {
            let mut context = plain_context(client, runs(), Arc::default());
            context.snapshots = history;
            reconcile::<FlinkApplication>(application, Arc::new(context)).await
        })
        .await;
    outcome.unwrap();
    let made = played.body("POST", SNAPSHOTS);
    assert_eq!(made["metadata"]["name"], "wc-savepoint-periodic-1800000000000");
    assert_eq!(
        (
            &made["spec"]["savepoint"]["disposeOnDelete"],
            &made["spec"]["backoffLimit"]
        ),
        (&json!(true), &json!(0))
    );
    assert_eq!(
        played.body("DELETE", "/old")["preconditions"]["uid"],
        "uid-9",
        "the very one that was seen"
    );
}

fn periodic(name: &str, age: i64) -> FlinkStateSnapshot {
    let mut snapshot = state_snapshot(json!({"savepoint": {}}), json!({"state": "COMPLETED"}));
    snapshot.metadata.name = Some(name.into());
    snapshot.metadata.creation_timestamp = Some(Time(seconds_ago(age)));
    snapshot
        .labels_mut()
        .insert("snapshot.trigger-type".into(), "PERIODIC".into());
    snapshot
}

#[test]
fn the_operators_own_keys_reach_no_process_and_restart_nothing() {
    let hourly = json!({"flinkConfiguration": {
        "execution.checkpointing.savepoint-dir": "s3://b/sp",
        "kubernetes": {"operator": {"periodic": {"savepoint": {"interval": "1 h"}}}},
    }});
    let with = validated(&application(hourly)).unwrap();
    let without = validated(&application(json!({"flinkConfiguration": {
        "execution.checkpointing.savepoint-dir": "s3://b/sp",
    }})))
    .unwrap();
    assert_eq!(with.job_manager_hash(), without.job_manager_hash());
    assert_eq!(with.task_manager_hash(), without.task_manager_hash());
    assert_eq!(with.configuration, without.configuration);
    let interval = with.job.unwrap().policy.periodic_savepoint;
    assert_eq!(interval, Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn the_savepoint_of_an_upgrade_is_recorded_with_its_restore_and_gets_a_resource() {
    let (mut application, deployment, pods) = stateful(json!({"job": {"parallelism": 1, "args": ["--new"]}}));
    application
        .status
        .get_or_insert_default()
        .recovery
        .savepoint_operation_id = Some("uid-1-2-stop".into());
    let script = begins(&application, deployment, pods)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_surroundings("wc")
        .expect("PATCH", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect("POST", SNAPSHOTS, Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource);
    let watches = says(ended_stop("FINISHED", "s3://b/sp/1", None));
    let (outcome, played) = once(&application, watches, script).await;
    outcome.unwrap();
    // Killed right behind the first write, the next pass still knows of the snapshot.
    let intent = &played.requests[3].body["status"];
    assert_eq!(intent["restorePath"], "s3://b/sp/1");
    assert_eq!(intent["snapshots"]["pending"][0]["path"], "s3://b/sp/1");
    let made = played.body("POST", SNAPSHOTS);
    assert_eq!(made["metadata"]["labels"]["snapshot.trigger-type"], "UPGRADE");
    assert_eq!(
        (
            &made["spec"]["savepoint"]["alreadyExists"],
            &made["spec"]["savepoint"]["path"]
        ),
        (&json!(true), &json!("s3://b/sp/1"))
    );
    let status = &played.body("PATCH", status_path())["status"];
    assert_eq!(
        status["jobStatus"]["savepointInfo"]["lastSavepoint"]["location"],
        "s3://b/sp/1"
    );
    assert_eq!(
        status["jobStatus"]["savepointInfo"]["lastSavepoint"]["triggerType"],
        "UPGRADE"
    );
}

/// A deleted application that is to be stopped with a savepoint first.
fn leaving(status: Value, seconds: i64) -> (FlinkApplication, Value, Vec<Value>) {
    let option = json!({"flinkConfiguration": {"kubernetes.operator.job.savepoint-on-deletion": "true"}});
    let mut all = json!({"lifecycleState": "DELETING"});
    merge(&mut all, status);
    let (application, deployment, pods) = asking(option, all);
    (deleted(application, seconds), deployment, pods)
}

const STOP: &str = "uid-1-delete-1-stop";

fn stopped(state: &str, path: &str, failure: Option<&str>) -> PushedJob {
    let mut job = ended_stop(state, path, failure);
    job.savepoints[0].operation_id = STOP.into();
    job
}

#[tokio::test]
async fn a_deleted_job_is_stopped_with_a_savepoint_before_anything_goes() {
    let (application, deployment, pods) = leaving(json!({}), 0);
    let jobs = Arc::new(FakeJobs::default());
    jobs.triggers
        .lock()
        .unwrap()
        .push_back(Ok(TriggerSavepointResponse { failure: None }));
    let script = begins(&application, deployment, pods).expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once_with(&application, runs(), &jobs, script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(Duration::from_secs(2)));
    assert_eq!(
        played.body("PATCH", status_path())["status"]["savepointOperationId"],
        STOP
    );
    let asked = jobs.triggered.lock().unwrap()[0].clone();
    assert_eq!((asked.operation_id.as_str(), asked.stop), (STOP, true));
    assert_eq!(played.reasons(), ["SavepointTriggered"]);
}

#[tokio::test]
async fn the_savepoint_of_a_deletion_has_a_resource_before_the_pods_go() {
    let (application, deployment, pods) = leaving(json!({"savepointOperationId": STOP}), 3);
    let script = begins(&application, deployment.clone(), pods.clone())
        .expect("PATCH", status_path(), Reply::Resource)
        .expect("POST", SNAPSHOTS, Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_reads("wc", Reply::Json(deployment), pods)
        .expect("DELETE", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("DELETE", "-0", Reply::Echo);
    let watches = says(stopped("FINISHED", "s3://b/sp/9", None));
    let (outcome, played) = once(&application, watches, script).await;
    outcome.unwrap();
    let recorded = &played.requests[3].body["status"];
    assert_eq!(recorded["jobStatus"]["upgradeSavepointPath"], "s3://b/sp/9");
    assert_eq!(recorded["snapshots"]["pending"][0]["path"], "s3://b/sp/9");
    let made = played.body("POST", SNAPSHOTS);
    assert_eq!(made["spec"]["savepoint"]["path"], "s3://b/sp/9");
    assert_eq!(played.reasons(), ["SavepointCompleted"]);
}

/// Killed behind the record of the path: the snapshot is created, and nothing is stopped or asked again.
#[tokio::test]
async fn a_deletion_goes_on_behind_the_record_of_its_savepoint() {
    let pending = json!({
        "name": "wc-savepoint-upgrade-1", "snapshotType": "SAVEPOINT", "triggerType": "UPGRADE", "path": "s3://b/sp/9",
    });
    let (application, _, _) = leaving(
        json!({"jobStatus": {"upgradeSavepointPath": "s3://b/sp/9"}, "snapshots": {"pending": [pending]}}),
        5,
    );
    let script = begins_without_deployment(&application)
        .expect("POST", SNAPSHOTS, Reply::Error(409, "AlreadyExists", "there"))
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_reads("wc", NOT_FOUND, vec![])
        .expect_looks_for_surroundings("wc", &[])
        .expect("PATCH", "/flinkapplications/wc", Reply::Resource);
    let (outcome, played) = once(&application, ClusterWatches::new(), script).await;
    assert_eq!(outcome.unwrap(), Action::await_change());
    assert_eq!(played.reasons(), ["Cleanup"]);
}

fn begins_without_deployment(application: &FlinkApplication) -> Script {
    Script::new(application)
        .expect("GET", "/flinkapplications/wc", Reply::Resource)
        .expect_reads("wc", NOT_FOUND, vec![])
}

#[tokio::test]
async fn a_failing_savepoint_is_told_and_tried_again_and_does_not_hold_the_deletion_for_ever() {
    let (application, deployment, pods) = leaving(json!({"savepointOperationId": STOP}), 3);
    let script = begins(&application, deployment.clone(), pods.clone()).expect(
        "PATCH",
        status_path(),
        Reply::Resource,
    );
    let failing = || says(stopped("RUNNING", "", Some("s3://b/sp: denied")));
    let (outcome, played) = once(&application, failing(), script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(Duration::from_secs(10)));
    assert_eq!(
        played.body("PATCH", status_path())["status"]["savepointOperationId"],
        "uid-1-delete-2-stop"
    );
    let (reason, note) = &played.events[0];
    assert!(reason == "SavepointError" && note.contains("denied"), "{note}");

    let (application, ..) = leaving(json!({"savepointOperationId": "uid-1-delete-9-stop"}), 301);
    let script = begins(&application, deployment.clone(), pods.clone())
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_reads("wc", Reply::Json(deployment), pods)
        .expect("DELETE", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("DELETE", "-0", Reply::Echo);
    let (outcome, played) = once(&application, failing(), script).await;
    outcome.unwrap();
    let status = &played.body("PATCH", status_path())["status"];
    assert!(
        status["savepointFailure"]
            .as_str()
            .unwrap()
            .contains("within 300 s")
    );
    let (reason, note) = &played.events[0];
    assert!(
        reason == "SavepointError" && note.contains("deleted without a savepoint"),
        "{note}"
    );
}

#[tokio::test]
async fn a_redeploy_nonce_starts_the_job_anew_from_its_initial_savepoint_without_a_stop() {
    let spec = |nonce: i64, path: &str| {
        json!({"job": {
            "upgradeMode": "savepoint", "initialSavepointPath": path, "savepointRedeployNonce": nonce,
        }})
    };
    let (before, deployment, pods) = asking(spec(1, "s3://b/sp/1"), json!({"savepointRedeployNonce": 1}));
    let (mut application, ..) = asking(spec(2, "s3://b/sp/2"), json!({}));
    application.status = before.status;
    application.metadata.generation = Some(2);
    let script = begins(&application, deployment, pods)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_surroundings("wc")
        .expect("PATCH", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, runs(), script).await;
    outcome.unwrap();
    let intent = &played.requests[3].body["status"];
    assert_eq!(
        (
            &intent["operationId"],
            &intent["restorePath"],
            &intent["restoreClaimMode"],
            &intent["savepointRedeployNonce"]
        ),
        (
            &json!("uid-1-2"),
            &json!("s3://b/sp/2"),
            &json!("NO_CLAIM"),
            &json!(2)
        )
    );
    let deployment = played.body("PATCH", "/deployments/wc-jobmanager").to_string();
    assert!(deployment.contains("execution.state-recovery.path=s3://b/sp/2"));
    let told = played.events.iter().find(|(reason, _)| reason == "RestoringFrom");
    assert!(told.unwrap().1.contains("savepointRedeployNonce"));
}

/// One pass over what the server has.
async fn pass_on(server: &Server, kill: Kill, watches: &ClusterWatches, jobs: &Arc<FakeJobs>) {
    let application: FlinkApplication = server.get("flinkapplications", "wc");
    let (watches, jobs) = (watches.clone(), jobs.clone());
    // How a killed pass ends nobody hears.
    let _ = server
        .run(kill, async move |client| {
            reconcile::<FlinkApplication>(Arc::new(application), context(client, watches, jobs)).await
        })
        .await;
}

fn served(application: &FlinkApplication, deployment: &Value, pods: &[Value]) -> Server {
    let server = Server::default();
    server.put("flinkapplications", application);
    server.put("deployments", deployment);
    for pod in pods {
        server.put("pods", pod);
    }
    server
}

fn created_snapshots(server: &Server) -> Vec<String> {
    let all = server.created().into_iter();
    all.filter(|path| path.starts_with(SNAPSHOTS)).collect()
}

/// A nonce and an interval at once, the operator killed before or behind each of its writes in turn: one snapshot for each.
#[tokio::test]
async fn killed_before_or_behind_any_write_a_nonce_and_a_due_time_make_one_snapshot_each() {
    for at in 0..14 {
        for kill in [Kill::Before(at), Kill::Behind(at)] {
            let asked = json!({
                "job": {"savepointTriggerNonce": 2},
                "flinkConfiguration": {"kubernetes.operator.periodic.checkpoint.interval": "5 min"},
            });
            let (application, deployment, pods) =
                asking(asked, json!({"snapshots": {"savepointTriggerNonce": 1}}));
            let server = served(&application, &deployment, &pods);
            for kill in [kill, Kill::Never, Kill::Never] {
                pass_on(&server, kill, &runs(), &Arc::default()).await;
            }
            assert_eq!(
                created_snapshots(&server),
                [
                    format!("{SNAPSHOTS}/{MANUAL}"),
                    format!("{SNAPSHOTS}/wc-checkpoint-periodic-1800000000000")
                ],
                "{kill:?}"
            );
            let left: FlinkApplication = server.get("flinkapplications", "wc");
            let record = left.status.unwrap_or_default().snapshots.unwrap_or_default();
            assert_eq!(
                (record.pending.len(), record.savepoint_trigger_nonce),
                (0, Some(2))
            );
        }
    }
}

/// An upgrade whose stop has ended, the operator killed before or behind each of its writes in turn: the new start takes the
/// savepoint, which has one resource.
#[tokio::test]
async fn killed_before_or_behind_any_write_an_upgrade_keeps_its_savepoint_and_its_resource() {
    for at in 0..14 {
        for kill in [Kill::Before(at), Kill::Behind(at)] {
            let (mut application, deployment, pods) = stateful(json!({"job": {"args": ["--new"]}}));
            let status = application.status.get_or_insert_default();
            status.recovery.savepoint_operation_id = Some("uid-1-2-stop".into());
            status.observed_generation = Some(1);
            let server = served(&application, &deployment, &pods);
            let watches = says(ended_stop("FINISHED", "s3://b/sp/1", None));
            for kill in [kill, Kill::Never, Kill::Never] {
                pass_on(&server, kill, &watches, &Arc::default()).await;
            }
            let after: FlinkApplication = server.get("flinkapplications", "wc");
            let recovery = after.status.unwrap_or_default().recovery;
            assert_eq!(recovery.restore_path.as_deref(), Some("s3://b/sp/1"), "{kill:?}");
            let deployment: Value = server.get("deployments", "wc-jobmanager");
            assert!(
                deployment
                    .to_string()
                    .contains("execution.state-recovery.path=s3://b/sp/1")
            );
            let made = format!("{SNAPSHOTS}/wc-savepoint-upgrade-1800000000000");
            assert_eq!(created_snapshots(&server), [made], "{kill:?}");
        }
    }
}

/// A deletion with a savepoint, the operator killed before or behind each of its writes in turn: the job is asked to stop under one
/// id, its savepoint has one resource, and everything goes.
#[tokio::test]
async fn killed_before_or_behind_any_write_a_deletion_makes_one_savepoint_and_ends() {
    for (at, killed_pass) in (0..8).flat_map(|at| [(at, 0), (at, 2), (at, 3)]) {
        for kill in [Kill::Before(at), Kill::Behind(at)] {
            // Long enough ago that pods which nobody collects are deleted by us.
            let (application, deployment, pods) = leaving(json!({}), 200);
            let server = served(&application, &deployment, &pods);
            let jobs = Arc::new(FakeJobs::default());
            let begun = || Ok(TriggerSavepointResponse { failure: None });
            jobs.triggers.lock().unwrap().extend([begun(), begun(), begun()]);
            for pass in 0..7 {
                let watches = if pass < 2 {
                    runs()
                } else {
                    says(stopped("FINISHED", "s3://b/sp/9", None))
                };
                let kill = if pass == killed_pass { kill } else { Kill::Never };
                pass_on(&server, kill, &watches, &jobs).await;
            }
            let asked = jobs.triggered.lock().unwrap();
            assert!(!asked.is_empty() && asked.iter().all(|one| one.operation_id == STOP));
            let made = format!("{SNAPSHOTS}/wc-savepoint-upgrade-1800000000000");
            assert_eq!(
                created_snapshots(&server),
                [made],
                "{kill:?} in pass {killed_pass}"
            );
            let gone: FlinkApplication = server.get("flinkapplications", "wc");
            assert_eq!(
                gone.finalizers(),
                Vec::<String>::new(),
                "{kill:?} in pass {killed_pass}"
            );
        }
    }
}
