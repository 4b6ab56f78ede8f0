//! FlinkApplications against a scripted API server.

mod snapshots;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use thalweg_crds::FlinkApplication;
use thalweg_proto::cluster::v1::{RetireResponse, TriggerSavepointResponse};

use super::*;
use crate::cluster::ClusterKind;
use crate::cluster_watch::ClusterWatches;
use crate::testing::{
    FakeJobs, NOT_FOUND, Played, Reply, Script, application, context, job_manager_objects, merge, pushed_job,
    seconds_ago, snapshot, task_manager_pod, validated, view,
};

fn running() -> Value {
    json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]})
}

fn key() -> ClusterKey {
    ClusterKey {
        kind: ClusterKind::Application,
        namespace: "default".into(),
        name: "wc".into(),
    }
}

fn status_path() -> &'static str {
    "/flinkapplications/wc/status"
}

/// Reconciles once; `watches` holds what the JobManager has said.
async fn once(
    application: &FlinkApplication,
    watches: ClusterWatches,
    script: Script,
) -> (Result<Action, ReconcileError>, Played) {
    let application = Arc::new(application.clone());
    script
        .play(async move |client| {
            reconcile::<FlinkApplication>(application, context(client, watches, Arc::default())).await
        })
        .await
}

fn with_status(application: &mut FlinkApplication, status: Value) {
    application.status = Some(serde_json::from_value(status).unwrap());
}

#[tokio::test]
async fn a_new_application_is_made_in_order_its_operation_recorded_first() {
    let application = application(json!({}));
    let script = Script::new(&application)
        .expect_reads("wc", NOT_FOUND, vec![])
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_surroundings("wc")
        .expect("PATCH", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("POST", "/pods", Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, ClusterWatches::new(), script).await;
    outcome.unwrap();
    let intent = &played.requests[2].body["status"];
    assert_eq!(intent["operationId"], "uid-1-1");
    let deployment = played.body("PATCH", "/deployments/wc-jobmanager");
    assert_eq!(
        deployment["metadata"]["annotations"]["thalweg.dev/operation-id"],
        "uid-1-1"
    );
    assert!(
        played.requests[3].query.contains("fieldManager=thalweg-operator"),
        "{}",
        played.requests[3].query
    );
    let status = &played.body("PATCH", status_path())["status"];
    assert_eq!(
        (&status["lifecycleState"], &status["image"]),
        (&json!("CREATED"), &json!("thalweg:1"))
    );
    assert_eq!(
        played.reasons(),
        ["Submit", "LifecycleChanged", "JobStatusChanged"]
    );
}

#[tokio::test]
async fn a_resource_without_our_finalizer_gets_it_before_anything_is_made() {
    let mut application = application(json!({"job": {"package": {"uri": "nowhere"}}}));
    application.metadata.finalizers = Some(vec!["other/one".into()]);
    let script = Script::new(&application)
        .expect("PATCH", "/flinkapplications/wc", Reply::Resource)
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, ClusterWatches::new(), script).await;
    outcome.unwrap();
    let patch = played.body("PATCH", "/flinkapplications/wc");
    assert_eq!(
        patch["metadata"]["finalizers"],
        json!(["other/one", "thalweg.dev/operator"])
    );
    assert_eq!(patch["metadata"]["resourceVersion"], "10");
}

#[tokio::test]
async fn an_invalid_spec_is_told_and_makes_nothing() {
    let application = application(json!({"taskManager": {"resource": {"memory": "1m"}}}));
    let script = Script::new(&application).expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, ClusterWatches::new(), script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(RESYNC));
    let status = &played.body("PATCH", status_path())["status"];
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .contains("spec.taskManager.resource.memory")
    );
    assert_eq!(status["lifecycleState"], "FAILED");
    assert!(
        played
            .events
            .iter()
            .any(|(reason, note)| reason == "ValidationError" && note.contains("at least 128m"))
    );
}

/// A running application, what the API server has of it, and what its JobManager says.
fn running_application() -> (FlinkApplication, Value, Vec<Value>, ClusterWatches) {
    let mut application = application(json!({}));
    let cluster = validated(&application).unwrap();
    let (deployment, job_manager) = job_manager_objects(&cluster, "uid-1-1", running());
    let pods = vec![job_manager, task_manager_pod(&cluster, 0, running())];
    with_status(
        &mut application,
        json!({"operationId": "uid-1-1", "jobManagerHash": cluster.job_manager_hash(), "lifecycleState": "DEPLOYED"}),
    );
    let watches = ClusterWatches::new();
    watches.set_view(
        &key(),
        "jm-1",
        view(snapshot(vec![pushed_job("uid-1-1", "RUNNING")])),
    );
    (application, deployment, pods, watches)
}

#[tokio::test]
async fn a_running_application_is_reported_and_nothing_is_touched() {
    let (application, deployment, pods, watches) = running_application();
    let script = Script::new(&application)
        .expect_reads("wc", Reply::Json(deployment), pods)
        .expect_surroundings("wc")
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, watches, script).await;
    outcome.unwrap();
    let status = &played.body("PATCH", status_path())["status"];
    assert_eq!(
        (&status["jobStatus"]["state"], &status["lifecycleState"]),
        (&json!("RUNNING"), &json!("STABLE"))
    );
    assert!(played.reasons().contains(&"JobStatusChanged"));
}

#[tokio::test]
async fn nothing_to_do_writes_nothing() {
    let (mut application, deployment, pods, watches) = running_application();
    let first = Script::new(&application)
        .expect_reads("wc", Reply::Json(deployment.clone()), pods.clone())
        .expect_surroundings("wc")
        .expect("PATCH", status_path(), Reply::Resource);
    let (_, played) = once(&application, watches.clone(), first).await;
    with_status(
        &mut application,
        played.body("PATCH", status_path())["status"].clone(),
    );
    // One context for both passes: it remembers what it applied.
    let script = Script::new(&application)
        .expect_reads("wc", Reply::Json(deployment.clone()), pods.clone())
        .expect_surroundings("wc")
        .expect_reads("wc", Reply::Json(deployment), pods);
    let ((), played) = script
        .play(async |client| {
            let context = context(client, watches, Arc::default());
            let application = Arc::new(application.clone());
            reconcile::<FlinkApplication>(application.clone(), context.clone())
                .await
                .unwrap();
            reconcile::<FlinkApplication>(application, context).await.unwrap();
        })
        .await;
    assert_eq!(played.events, []);
}

#[tokio::test]
async fn a_suspended_application_loses_its_job_manager_and_task_managers() {
    let (mut application, deployment, pods, watches) = running_application();
    application.spec.job.state = Some(thalweg_crds::JobStateSpec::Suspended);
    let script = Script::new(&application)
        .expect_reads("wc", Reply::Json(deployment), pods)
        .expect_surroundings("wc")
        .expect("DELETE", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("DELETE", "-0", Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, watches, script).await;
    outcome.unwrap();
    assert_eq!(
        played.body("DELETE", "/wc-jobmanager")["propagationPolicy"],
        "Background"
    );
    assert_eq!(played.body("DELETE", "-0")["preconditions"]["uid"], "tm-0");
    let status = &played.body("PATCH", status_path())["status"];
    assert_eq!(
        (&status["jobStatus"]["state"], &status["operationId"]),
        (&json!("SUSPENDED"), &Value::Null)
    );
}

#[tokio::test]
async fn a_refused_pod_is_told_and_tried_again() {
    let application = application(json!({}));
    let script = Script::new(&application)
        .expect_reads("wc", NOT_FOUND, vec![])
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_surroundings("wc")
        .expect("PATCH", "/deployments/wc-jobmanager", Reply::Echo)
        .expect(
            "POST",
            "/pods",
            Reply::Error(403, "Forbidden", "exceeded quota: pods"),
        )
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, ClusterWatches::new(), script).await;
    assert_eq!(outcome.unwrap_err().reason(), "FailedCreate");
    let status = &played.body("PATCH", status_path())["status"];
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .ends_with("exceeded quota: pods"),
        "{status}"
    );
    assert!(played.reasons().contains(&"FailedCreate"));
}

#[tokio::test]
async fn a_pod_that_is_there_already_is_no_error() {
    let application = application(json!({}));
    let script = Script::new(&application)
        .expect_reads("wc", NOT_FOUND, vec![])
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_surroundings("wc")
        .expect("PATCH", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("POST", "/pods", Reply::Error(409, "AlreadyExists", "there"))
        .expect("PATCH", status_path(), Reply::Resource);
    once(&application, ClusterWatches::new(), script).await.0.unwrap();
}

#[tokio::test]
async fn a_name_that_another_kind_has_taken_is_told() {
    let application = application(json!({}));
    let (mut deployment, _) = job_manager_objects(&validated(&application).unwrap(), "x", running());
    deployment["metadata"]["ownerReferences"][0] = json!({
        "apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkSession", "name": "wc", "uid": "u", "controller": true,
    });
    let script = Script::new(&application)
        .expect_reads("wc", Reply::Json(deployment), vec![])
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, ClusterWatches::new(), script).await;
    outcome.unwrap();
    let status = &played.body("PATCH", status_path())["status"];
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .contains("FlinkSession wc in this namespace has the same name")
    );
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_told() {
    let (application, deployment, mut pods, _) = running_application();
    pods[0]["status"] = json!({"phase": "Pending", "containerStatuses": [{
        "name": "flink-main-container", "image": "thalweg:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "thalweg:1: not found"}},
    }]});
    let script = Script::new(&application)
        .expect_reads("wc", Reply::Json(deployment), pods)
        .expect_surroundings("wc")
        .expect("PATCH", status_path(), Reply::Resource);
    let (outcome, played) = once(&application, ClusterWatches::new(), script).await;
    outcome.unwrap();
    assert!(
        played
            .events
            .iter()
            .any(|(reason, note)| reason == "ImagePullError" && note.contains("not found"))
    );
}

fn deleted(mut application: FlinkApplication, seconds: i64) -> FlinkApplication {
    application.metadata.deletion_timestamp = Some(Time(seconds_ago(seconds)));
    application
}

#[tokio::test]
async fn a_deleted_application_goes_when_its_pods_are_gone() {
    let (application, deployment, pods, watches) = running_application();
    let application = deleted(application, 0);
    let script = Script::new(&application)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_reads("wc", Reply::Json(deployment), pods)
        .expect("DELETE", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("DELETE", "-0", Reply::Echo);
    let (outcome, played) = once(&application, watches.clone(), script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(Duration::from_secs(5)));
    assert_eq!(
        played.body("PATCH", status_path())["status"]["lifecycleState"],
        "DELETING"
    );
    assert!(watches.view(&key()).is_none());

    let mut application = application;
    with_status(&mut application, json!({"lifecycleState": "DELETING"}));
    let owned_by = |uid: &str| {
        json!({"uid": format!("of-{uid}"), "ownerReferences": [
            {"apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkApplication", "name": "wc", "uid": uid}]})
    };
    let own = application.metadata.uid.clone().unwrap_or_default();
    let found = [
        ("/services/wc-rest", owned_by(&own)),
        ("/configmaps/wc-config", owned_by("somebody else's")),
    ];
    let script = Script::new(&application)
        .expect_reads("wc", NOT_FOUND, vec![])
        .expect_looks_for_surroundings("wc", &found)
        .expect("DELETE", "/services/wc-rest", Reply::Echo)
        .expect("PATCH", "/flinkapplications/wc", Reply::Resource);
    let (outcome, played) = once(&application, watches, script).await;
    assert_eq!(outcome.unwrap(), Action::await_change());
    assert_eq!(
        played.body("DELETE", "/wc-rest")["preconditions"]["uid"],
        format!("of-{own}")
    );
    assert_eq!(played.body("PATCH", "/wc")["metadata"]["finalizers"], json!([]));
    assert_eq!(played.reasons(), ["Cleanup"]);
}

#[tokio::test]
async fn what_a_deleted_cluster_left_in_storage_is_asked_for_until_it_is_gone() {
    let busy = thalweg_proto::control::v1::Failure {
        message: "storage is away".into(),
        ..Default::default()
    };
    let answers = [
        Err(NoAnswer("Unavailable: gone".into())),
        Ok(RetireResponse { failure: Some(busy) }),
        Ok(RetireResponse { failure: None }),
    ];
    let jobs = Arc::new(FakeJobs::default());
    jobs.retirements.lock().unwrap().extend(answers);
    let script = Script::new(&application(json!({})));
    let (waits, _) = script
        .play(async move |client| {
            let context = context(client, ClusterWatches::new(), jobs);
            let mut waits = Vec::new();
            for _ in 0..3 {
                waits.push(retire(&context, "jm:6123").await);
            }
            waits
        })
        .await;
    assert_eq!(waits, [Some(ENDING_RECHECK), Some(ENDING_RECHECK), None]);
}

#[tokio::test]
async fn a_deleted_application_whose_pod_hangs_forces_it() {
    let (application, _, mut pods, watches) = running_application();
    let mut application = deleted(application, 60);
    with_status(&mut application, json!({"lifecycleState": "DELETING"}));
    pods[0]["metadata"]["deletionTimestamp"] = json!(seconds_ago(30).to_string());
    let hanging = vec![pods.remove(0)];
    let script = Script::new(&application)
        .expect_reads("wc", NOT_FOUND, hanging)
        .expect("DELETE", "/pods/wc-jobmanager-x", Reply::Echo);
    let (_, played) = once(&application, watches, script).await;
    assert_eq!(played.body("DELETE", "/wc-jobmanager-x")["gracePeriodSeconds"], 0);
}

#[tokio::test]
async fn a_deleted_application_that_never_came_up_goes_at_once() {
    let application = deleted(application(json!({"job": {"package": {"uri": "nowhere"}}})), 0);
    let script = Script::new(&application)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_reads("wc", NOT_FOUND, vec![])
        .expect_looks_for_surroundings("wc", &[])
        .expect(
            "PATCH",
            "/flinkapplications/wc",
            Reply::Error(404, "NotFound", "gone"),
        );
    let (outcome, _) = once(&application, ClusterWatches::new(), script).await;
    assert_eq!(outcome.unwrap(), Action::await_change());
}

#[tokio::test]
async fn applications_of_one_name_in_two_namespaces_are_two() {
    let mut other = application(json!({}));
    other.metadata.namespace = Some("other".into());
    let script = Script::new(&other)
        .expect("GET", "/namespaces/other/deployments/wc-jobmanager", NOT_FOUND)
        .expect(
            "GET",
            "/namespaces/other/pods",
            Reply::Error(500, "InternalError", "etcd is away"),
        )
        .expect(
            "PATCH",
            "/namespaces/other/flinkapplications/wc/status",
            Reply::Resource,
        );
    let (outcome, played) = once(&other, ClusterWatches::new(), script).await;
    assert_eq!(outcome.unwrap_err().reason(), "ApiServerError");
    let status = &played.body("PATCH", "/status")["status"];
    assert!(status["error"].as_str().unwrap().contains("etcd is away"));
}

/// An application with upgrade mode savepoint that runs as generation 1 and is wanted as `change` now.
fn stateful(change: Value) -> (FlinkApplication, Value, Vec<Value>) {
    let spec = |change: Value| {
        let mut spec = json!({
            "job": {"upgradeMode": "savepoint"},
            "flinkConfiguration": {"execution.checkpointing.savepoint-dir": "s3://b/sp"},
        });
        merge(&mut spec, change);
        spec
    };
    let cluster = validated(&application(spec(json!({})))).unwrap();
    let (deployment, job_manager) = job_manager_objects(&cluster, "uid-1-1", running());
    let pods = vec![job_manager, task_manager_pod(&cluster, 0, running())];
    let mut changed = application(spec(change));
    changed.metadata.generation = Some(2);
    with_status(
        &mut changed,
        json!({
            "operationId": "uid-1-1", "jobManagerHash": cluster.job_manager_hash(), "lifecycleState": "STABLE",
            "jobStarted": true, "jobStatus": {"state": "RUNNING", "jobId": "0123456789abcdef0123456789abcdef"},
        }),
    );
    (changed, deployment, pods)
}

fn says(job: thalweg_proto::cluster::v1::JobStatus) -> ClusterWatches {
    let watches = ClusterWatches::new();
    watches.set_view(&key(), "jm-1", view(snapshot(vec![job])));
    watches
}

fn ended_stop(state: &str, path: &str, failure: Option<&str>) -> thalweg_proto::cluster::v1::JobStatus {
    let failure = failure.map(|message| thalweg_proto::control::v1::Failure {
        message: message.into(),
        ..Default::default()
    });
    let stop = thalweg_proto::cluster::v1::SavepointStatus {
        operation_id: "uid-1-2-stop".into(),
        path: path.into(),
        failure,
        stops_job: true,
        triggered_ms: 1,
        ended_ms: 2,
    };
    thalweg_proto::cluster::v1::JobStatus {
        savepoints: vec![stop],
        ..pushed_job("uid-1-1", state)
    }
}

/// The resource itself is read first: what the last pass wrote must not be missed.
fn begins(application: &FlinkApplication, deployment: Value, pods: Vec<Value>) -> Script {
    Script::new(application)
        .expect("GET", "/flinkapplications/wc", Reply::Resource)
        .expect_reads("wc", Reply::Json(deployment), pods)
}

/// A job that is about to stop keeps its config.yaml.
fn surroundings_but_configuration(mut script: Script) -> Script {
    for path in [
        "/serviceaccounts/wc-jobmanager",
        "/leases/wc-jobmanager",
        "/roles/wc-jobmanager",
        "/services/wc-jobmanager",
        "/services/wc-rest",
        "/rolebindings/wc-jobmanager",
    ] {
        script = script.expect("PATCH", path, Reply::Echo);
    }
    script
}

async fn once_with(
    application: &FlinkApplication,
    watches: ClusterWatches,
    jobs: &Arc<FakeJobs>,
    script: Script,
) -> (Result<Action, ReconcileError>, Played) {
    let (application, jobs) = (Arc::new(application.clone()), jobs.clone());
    script
        .play(async move |client| {
            reconcile::<FlinkApplication>(application, context(client, watches, jobs)).await
        })
        .await
}

#[tokio::test]
async fn a_stop_is_recorded_then_asked_for_and_nothing_is_replaced() {
    let (application, deployment, pods) = stateful(json!({"job": {"args": ["--new"]}, "image": "thalweg:2"}));
    let jobs = Arc::new(FakeJobs::default());
    jobs.triggers
        .lock()
        .unwrap()
        .push_back(Ok(TriggerSavepointResponse { failure: None }));
    let script = begins(&application, deployment, pods).expect("PATCH", status_path(), Reply::Resource);
    let script = surroundings_but_configuration(script).expect("PATCH", status_path(), Reply::Resource);
    let watches = says(pushed_job("uid-1-1", "RUNNING"));
    let (outcome, played) = once_with(&application, watches, &jobs, script).await;
    outcome.unwrap();
    let intent = &played.requests[3].body["status"];
    assert_eq!(
        (&intent["savepointOperationId"], &intent["operationId"]),
        (&json!("uid-1-2-stop"), &json!("uid-1-1"))
    );
    let asked = jobs.triggered.lock().unwrap()[0].clone();
    assert_eq!(
        (asked.operation_id.as_str(), asked.stop, asked.drain),
        ("uid-1-2-stop", true, false)
    );
    let status = &played.body("PATCH", status_path())["status"];
    assert_eq!(status["lifecycleState"], "UPGRADING");
    assert_eq!(status["operationId"], "uid-1-1");
    assert!(
        played.reasons().contains(&"SavepointTriggered"),
        "{:?}",
        played.reasons()
    );
}

#[tokio::test]
async fn a_stop_that_got_no_answer_is_asked_for_again() {
    let (application, deployment, pods) = stateful(json!({"job": {"args": ["--new"]}}));
    let jobs = Arc::new(FakeJobs::default());
    jobs.triggers
        .lock()
        .unwrap()
        .push_back(Err(NoAnswer("Unavailable: gone".into())));
    let script = begins(&application, deployment, pods).expect("PATCH", status_path(), Reply::Resource);
    let script = surroundings_but_configuration(script).expect("PATCH", status_path(), Reply::Resource);
    let watches = says(pushed_job("uid-1-1", "RUNNING"));
    let (outcome, played) = once_with(&application, watches, &jobs, script).await;
    assert_eq!(outcome.unwrap_err().reason(), "JobManagerUnreachable");
    // What was recorded stays recorded.
    assert_eq!(
        played.body("PATCH", status_path())["status"]["savepointOperationId"],
        "uid-1-2-stop"
    );
}

#[tokio::test]
async fn a_stop_that_is_refused_is_told_and_leaves_the_job() {
    let (application, deployment, pods) = stateful(json!({"job": {"state": "suspended"}}));
    let jobs = Arc::new(FakeJobs::default());
    let refusal = thalweg_proto::control::v1::Failure {
        class: FailureClass::Fatal.into(),
        message: "s3://b/sp: denied".into(),
        detail: String::new(),
    };
    jobs.triggers
        .lock()
        .unwrap()
        .push_back(Ok(TriggerSavepointResponse {
            failure: Some(refusal),
        }));
    let script = begins(&application, deployment, pods).expect("PATCH", status_path(), Reply::Resource);
    let script = surroundings_but_configuration(script).expect("PATCH", status_path(), Reply::Resource);
    let watches = says(pushed_job("uid-1-1", "RUNNING"));
    let (outcome, played) = once_with(&application, watches, &jobs, script).await;
    outcome.unwrap();
    let status = &played.body("PATCH", status_path())["status"];
    assert_eq!(status["savepointFailure"], "s3://b/sp: denied");
    assert_eq!(status["jobStatus"]["state"], "RUNNING");
    assert!(
        played.reasons().contains(&"SavepointFailed"),
        "{:?}",
        played.reasons()
    );
}

#[tokio::test]
async fn a_stopped_job_is_recorded_with_its_path_before_its_job_manager_is_replaced() {
    let (mut application, deployment, pods) = stateful(json!({"job": {"parallelism": 3}}));
    application
        .status
        .get_or_insert_default()
        .recovery
        .savepoint_operation_id = Some("uid-1-2-stop".into());
    let script = begins(&application, deployment, pods)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_surroundings("wc")
        .expect("PATCH", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("POST", "/pods", Reply::Echo)
        .expect("POST", "/pods", Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect("POST", "/flinkstatesnapshots", Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource);
    let watches = says(ended_stop("FINISHED", "s3://b/sp/1", None));
    let (outcome, played) = once(&application, watches, script).await;
    outcome.unwrap();
    let intent = &played.requests[3].body["status"];
    assert_eq!(
        (
            &intent["operationId"],
            &intent["restorePath"],
            &intent["restoreClaimMode"]
        ),
        (&json!("uid-1-2"), &json!("s3://b/sp/1"), &json!("NO_CLAIM"))
    );
    assert_eq!(intent["savepointOperationId"], Value::Null);
    let deployment = played.body("PATCH", "/deployments/wc-jobmanager").to_string();
    assert!(
        deployment.contains("execution.state-recovery.path=s3://b/sp/1"),
        "{deployment}"
    );
    let reasons = played.reasons();
    assert!(
        reasons.contains(&"SavepointCompleted") && reasons.contains(&"RestoringFrom"),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_suspended_jobs_path_is_recorded_before_its_job_manager_goes() {
    let (mut application, deployment, pods) = stateful(json!({"job": {"state": "suspended"}}));
    application
        .status
        .get_or_insert_default()
        .recovery
        .savepoint_operation_id = Some("uid-1-2-stop".into());
    let script = begins(&application, deployment, pods)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_surroundings("wc")
        .expect("DELETE", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("DELETE", "-0", Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect("POST", "/flinkstatesnapshots", Reply::Echo)
        .expect("PATCH", status_path(), Reply::Resource);
    let watches = says(ended_stop("FINISHED", "s3://b/sp/1", None));
    let (outcome, played) = once(&application, watches, script).await;
    outcome.unwrap();
    let intent = &played.requests[3].body["status"];
    assert_eq!(intent["jobStatus"]["upgradeSavepointPath"], "s3://b/sp/1");
    assert_eq!(intent["operationId"], Value::Null);
    let status = &played.body("PATCH", status_path())["status"];
    assert_eq!(
        (
            &status["lifecycleState"],
            &status["jobStatus"]["upgradeSavepointPath"]
        ),
        (&json!("SUSPENDED"), &json!("s3://b/sp/1"))
    );
    assert!(played.reasons().contains(&"SavepointCompleted"));
}

#[tokio::test]
async fn what_fails_behind_the_record_does_not_take_it_back() {
    let (mut application, deployment, pods) = stateful(json!({"job": {"state": "suspended"}}));
    application
        .status
        .get_or_insert_default()
        .recovery
        .savepoint_operation_id = Some("uid-1-2-stop".into());
    let script = begins(&application, deployment, pods)
        .expect("PATCH", status_path(), Reply::Resource)
        .expect_surroundings("wc")
        .expect("DELETE", "/deployments/wc-jobmanager", Reply::Echo)
        .expect("DELETE", "-0", Reply::Error(500, "InternalError", "etcd is away"))
        .expect("PATCH", status_path(), Reply::Resource);
    let watches = says(ended_stop("FINISHED", "s3://b/sp/1", None));
    let (outcome, played) = once(&application, watches, script).await;
    assert_eq!(outcome.unwrap_err().reason(), "ApplyFailed");
    let status = &played.body("PATCH", status_path())["status"];
    assert_eq!(status["jobStatus"]["upgradeSavepointPath"], "s3://b/sp/1");
    assert!(status["error"].as_str().unwrap().contains("etcd is away"));
}
