//! FlinkSessionJobs against a scripted API server and a JobManager that answers by a list.

#![allow(clippy::needless_pass_by_value)] // `json!(...)` reads better at the call without `&`

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use thalweg_proto::cluster::v1::{CancelJobResponse, SubmitJobResponse};

use super::*;
use crate::cluster_watch::ClusterWatches;
use crate::testing::{
    FakeJobs, NOT_FOUND, Played, Reply, Script, context, merge, pushed_job, seconds_ago, session, snapshot,
    view,
};

const STATUS: &str = "/flinksessionjobs/counts/status";
const ITSELF: &str = "/flinksessionjobs/counts";
const SESSION: &str = "/flinksessions/shared";

fn job(spec: Value, status: Value) -> FlinkSessionJob {
    let mut all = json!({
        "apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkSessionJob",
        "metadata": {
            "name": "counts", "namespace": "default", "uid": "uid-3", "generation": 1, "resourceVersion": "10",
            "finalizers": ["thalweg.dev/operator"],
        },
        "spec": {"sessionName": "shared", "job": {"package": {"uri": "local:///opt/counts"}, "args": ["-x"]}},
        "status": status,
    });
    merge(&mut all["spec"], spec);
    serde_json::from_value(all).unwrap()
}

fn hash_of(job: &FlinkSessionJob) -> String {
    let (spec, configuration) =
        validate_session_job(&job.spec.job, job.spec.flink_configuration.as_ref()).unwrap();
    job_hash(job, &spec, &configuration)
}

/// A job that was submitted as `uid-3-1`.
fn submitted() -> FlinkSessionJob {
    let fresh = job(json!({}), Value::Null);
    job(
        json!({}),
        json!({"operationId": "uid-3-1", "jobHash": hash_of(&fresh), "lifecycleState": "DEPLOYED"}),
    )
}

fn reachable(jobs: Vec<thalweg_proto::cluster::v1::JobStatus>) -> ClusterWatches {
    let watches = ClusterWatches::new();
    let key = ClusterKey {
        kind: ClusterKind::Session,
        namespace: "default".into(),
        name: "shared".into(),
    };
    watches.set_view(&key, "jm", view(snapshot(jobs)));
    watches
}

fn the_session() -> Reply {
    Reply::Json(serde_json::to_value(session(json!({}))).unwrap())
}

async fn once(
    job: &FlinkSessionJob,
    watches: ClusterWatches,
    jobs: &Arc<FakeJobs>,
    script: Script,
) -> (Result<Action, ReconcileError>, Played) {
    let (job, jobs) = (Arc::new(job.clone()), jobs.clone());
    script
        .play(async move |client| reconcile(job, context(client, watches, jobs)).await)
        .await
}

fn answering(result: Submitted) -> Arc<FakeJobs> {
    let jobs = FakeJobs::default();
    jobs.submits
        .lock()
        .unwrap()
        .push_back(Ok(SubmitJobResponse { result: Some(result) }));
    Arc::new(jobs)
}

#[tokio::test]
async fn a_job_is_submitted_after_its_operation_was_recorded() {
    let job = job(json!({"flinkConfiguration": {"a": {"b": 1}}}), Value::Null);
    let jobs = answering(Submitted::JobId("id".into()));
    let script = Script::new(&job)
        .expect("GET", SESSION, the_session())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&job, reachable(vec![]), &jobs, script).await;
    outcome.unwrap();
    assert_eq!(played.requests[1].body["status"]["operationId"], "uid-3-1");
    let request = jobs.submitted.lock().unwrap()[0].clone();
    assert_eq!(
        (request.operation_id.as_str(), request.arguments.as_slice()),
        ("uid-3-1", ["-x".to_owned()].as_slice())
    );
    assert_eq!(request.configuration["a.b"], "1");
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(
        (&status["jobStatus"]["jobId"], &status["jobStatus"]["state"]),
        (&json!("id"), &json!("INITIALIZING"))
    );
    assert_eq!(status["lifecycleState"], "DEPLOYED");
}

#[tokio::test]
async fn a_missing_session_is_told() {
    let job = job(json!({}), Value::Null);
    let script = Script::new(&job)
        .expect("GET", SESSION, NOT_FOUND)
        .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&job, ClusterWatches::new(), &Arc::default(), script).await;
    outcome.unwrap();
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(
        status["error"],
        "there is no FlinkSession shared in namespace default; create it"
    );
    assert!(played.reasons().contains(&"SessionNotFound"));
}

#[tokio::test]
async fn a_session_that_does_not_answer_is_waited_for() {
    let job = job(json!({}), Value::Null);
    let script =
        Script::new(&job)
            .expect("GET", SESSION, the_session())
            .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&job, ClusterWatches::new(), &Arc::default(), script).await;
    outcome.unwrap();
    assert!(played.reasons().contains(&"SessionNotReady"));
}

#[tokio::test]
async fn an_invalid_job_is_told_and_not_submitted() {
    let job = job(json!({"job": {"upgradeMode": "savepoint"}}), Value::Null);
    let script =
        Script::new(&job)
            .expect("GET", ITSELF, Reply::Resource)
            .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&job, reachable(vec![]), &Arc::default(), script).await;
    outcome.unwrap();
    let status = &played.body("PATCH", STATUS)["status"];
    assert!(status["error"].as_str().unwrap().contains("spec.job.upgradeMode"));
    assert_eq!(status["lifecycleState"], "FAILED");
}

#[tokio::test]
async fn a_refused_submission_is_the_jobs_end() {
    let job = submitted();
    let failure = Failure {
        class: FailureClass::Fatal.into(),
        message: "not a package".into(),
        detail: String::new(),
    };
    let jobs = answering(Submitted::Failure(failure));
    let script =
        Script::new(&job)
            .expect("GET", SESSION, the_session())
            .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&job, reachable(vec![]), &jobs, script).await;
    outcome.unwrap();
    let status = played.body("PATCH", STATUS)["status"].clone();
    assert_eq!(
        (&status["error"], &status["lifecycleState"]),
        (&json!("not a package"), &json!("FAILED"))
    );
    // The next pass submits nothing.
    let job = self::job(json!({}), status);
    let script = Script::new(&job).expect("GET", SESSION, the_session());
    once(&job, reachable(vec![]), &Arc::default(), script)
        .await
        .0
        .unwrap();
}

#[tokio::test]
async fn a_submission_without_an_answer_is_tried_again() {
    let job = submitted();
    let jobs = Arc::new(FakeJobs::default());
    jobs.submits
        .lock()
        .unwrap()
        .push_back(Err(NoAnswer("Unavailable: gone".into())));
    let script =
        Script::new(&job)
            .expect("GET", SESSION, the_session())
            .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&job, reachable(vec![]), &jobs, script).await;
    assert_eq!(outcome.unwrap_err().reason(), "JobManagerUnreachable");
    assert!(
        played.body("PATCH", STATUS)["status"]["error"]
            .as_str()
            .unwrap()
            .contains("Unavailable: gone")
    );
    assert_eq!(played.body("PATCH", STATUS)["status"]["operationId"], "uid-3-1");
}

#[tokio::test]
async fn a_running_job_is_reported() {
    let job = submitted();
    let script =
        Script::new(&job)
            .expect("GET", SESSION, the_session())
            .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(
        &job,
        reachable(vec![pushed_job("uid-3-1", "RUNNING")]),
        &Arc::default(),
        script,
    )
    .await;
    outcome.unwrap();
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(
        (&status["jobStatus"]["state"], &status["lifecycleState"]),
        (&json!("RUNNING"), &json!("STABLE"))
    );
}

#[tokio::test]
async fn a_suspended_job_is_cancelled() {
    let mut job = submitted();
    job.spec.job.state = Some(thalweg_crds::JobStateSpec::Suspended);
    let jobs = Arc::new(FakeJobs::default());
    jobs.cancels.lock().unwrap().push_back(Ok(CancelJobResponse {
        state: "CANCELLING".into(),
    }));
    let script =
        Script::new(&job)
            .expect("GET", SESSION, the_session())
            .expect("PATCH", STATUS, Reply::Resource);
    once(
        &job,
        reachable(vec![pushed_job("uid-3-1", "RUNNING")]),
        &jobs,
        script,
    )
    .await
    .0
    .unwrap();
    assert_eq!(jobs.cancelled.lock().unwrap().len(), 1);
    let script =
        Script::new(&job)
            .expect("GET", SESSION, the_session())
            .expect("PATCH", STATUS, Reply::Resource);
    let (_, played) = once(
        &job,
        reachable(vec![pushed_job("uid-3-1", "CANCELED")]),
        &jobs,
        script,
    )
    .await;
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(
        (&status["lifecycleState"], &status["operationId"]),
        (&json!("SUSPENDED"), &Value::Null)
    );
}

fn deleted(mut job: FlinkSessionJob, seconds: i64) -> FlinkSessionJob {
    job.metadata.deletion_timestamp = Some(Time(seconds_ago(seconds)));
    job.status.get_or_insert_default().lifecycle_state = Some(LifecycleState::Deleting);
    job
}

fn released(played: &Played) -> bool {
    played.body("PATCH", "/flinksessionjobs/counts")["metadata"]["finalizers"] == json!([])
}

#[tokio::test]
async fn a_deleted_job_is_cancelled_and_goes_when_it_has_ended() {
    let job = deleted(submitted(), 1);
    let jobs = Arc::new(FakeJobs::default());
    jobs.cancels.lock().unwrap().push_back(Ok(CancelJobResponse {
        state: "CANCELLING".into(),
    }));
    let script = Script::new(&job).expect("GET", SESSION, the_session());
    let (outcome, _) = once(
        &job,
        reachable(vec![pushed_job("uid-3-1", "RUNNING")]),
        &jobs,
        script,
    )
    .await;
    assert_eq!(outcome.unwrap(), Action::requeue(CANCEL_RECHECK));
    let script = Script::new(&job).expect("GET", SESSION, the_session()).expect(
        "PATCH",
        "/flinksessionjobs/counts",
        Reply::Resource,
    );
    let (_, played) = once(
        &job,
        reachable(vec![pushed_job("uid-3-1", "CANCELED")]),
        &jobs,
        script,
    )
    .await;
    assert!(released(&played));
}

#[tokio::test]
async fn a_deleted_job_of_a_session_that_is_gone_goes_at_once() {
    let job = deleted(submitted(), 0);
    let script = Script::new(&job).expect("GET", SESSION, NOT_FOUND).expect(
        "PATCH",
        "/flinksessionjobs/counts",
        Reply::Resource,
    );
    let (_, played) = once(&job, ClusterWatches::new(), &Arc::default(), script).await;
    assert!(released(&played));
}

#[tokio::test]
async fn a_deleted_job_whose_session_never_came_up_is_given_up_with_a_warning() {
    let waiting = deleted(submitted(), 3);
    let script = Script::new(&waiting).expect("GET", SESSION, the_session());
    let (outcome, _) = once(&waiting, ClusterWatches::new(), &Arc::default(), script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(CANCEL_RECHECK));
    let late = deleted(submitted(), 15);
    let script = Script::new(&late).expect("GET", SESSION, the_session()).expect(
        "PATCH",
        "/flinksessionjobs/counts",
        Reply::Resource,
    );
    let (_, played) = once(&late, ClusterWatches::new(), &Arc::default(), script).await;
    assert!(released(&played));
    assert_eq!(played.reasons(), ["CleanupFailed"]);
}

#[tokio::test]
async fn a_deleted_job_that_was_never_submitted_goes_at_once() {
    let job = deleted(job(json!({}), Value::Null), 0);
    let script = Script::new(&job).expect("GET", SESSION, the_session()).expect(
        "PATCH",
        "/flinksessionjobs/counts",
        Reply::Resource,
    );
    let (_, played) = once(&job, ClusterWatches::new(), &Arc::default(), script).await;
    assert!(released(&played));
}

#[tokio::test]
async fn a_first_submission_restores_from_the_initial_savepoint() {
    let job = job(
        json!({"job": {"initialSavepointPath": "s3://b/sp/0", "allowNonRestoredState": true}}),
        Value::Null,
    );
    let jobs = answering(Submitted::JobId("id".into()));
    let script = Script::new(&job)
        .expect("GET", ITSELF, Reply::Resource)
        .expect("GET", SESSION, the_session())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&job, reachable(vec![]), &jobs, script).await;
    outcome.unwrap();
    assert_eq!(played.requests[2].body["status"]["restorePath"], "s3://b/sp/0");
    let request = jobs.submitted.lock().unwrap()[0].clone();
    let expected = RestoreSettings {
        path: "s3://b/sp/0".into(),
        allow_non_restored_state: true,
        claim_mode: "NO_CLAIM".into(),
    };
    assert_eq!(request.restore, Some(expected));
    assert!(played.reasons().contains(&"RestoringFrom"));
}

#[tokio::test]
async fn a_suspended_job_with_upgrade_mode_savepoint_is_stopped_with_one_and_resumes_from_it() {
    let spec = |state: &str| {
        json!({
            "job": {"upgradeMode": "savepoint", "state": state},
            "flinkConfiguration": {"execution.checkpointing.savepoint-dir": "s3://b/sp"},
        })
    };
    let hash = hash_of(&job(spec("running"), Value::Null));
    let mut suspended = job(
        spec("suspended"),
        json!({"operationId": "uid-3-1", "jobHash": hash, "lifecycleState": "STABLE"}),
    );
    suspended.metadata.generation = Some(2);
    let begins = |job: &FlinkSessionJob| {
        Script::new(job)
            .expect("GET", ITSELF, Reply::Resource)
            .expect("GET", SESSION, the_session())
            .expect("PATCH", STATUS, Reply::Resource)
    };
    let jobs = Arc::new(FakeJobs::default());
    let begun = thalweg_proto::cluster::v1::TriggerSavepointResponse { failure: None };
    jobs.triggers.lock().unwrap().push_back(Ok(begun));
    let script = begins(&suspended).expect("PATCH", STATUS, Reply::Resource);
    let running = reachable(vec![pushed_job("uid-3-1", "RUNNING")]);
    let (outcome, played) = once(&suspended, running, &jobs, script).await;
    outcome.unwrap();
    assert_eq!(
        played.requests[2].body["status"]["savepointOperationId"],
        "uid-3-2-stop"
    );
    assert_eq!(jobs.triggered.lock().unwrap()[0].operation_id, "uid-3-2-stop");

    suspended.status = Some(serde_json::from_value(played.body("PATCH", STATUS)["status"].clone()).unwrap());
    let mut stopped = pushed_job("uid-3-1", "FINISHED");
    stopped.savepoints = vec![thalweg_proto::cluster::v1::SavepointStatus {
        operation_id: "uid-3-2-stop".into(),
        path: "s3://b/sp/1".into(),
        stops_job: true,
        ended_ms: 1,
        ..Default::default()
    }];
    let script = begins(&suspended)
        .expect("POST", "/flinkstatesnapshots", Reply::Echo)
        .expect("PATCH", STATUS, Reply::Resource);
    let (_, played) = once(&suspended, reachable(vec![stopped]), &jobs, script).await;
    let made = played.body("POST", "/flinkstatesnapshots");
    assert_eq!(made["metadata"]["name"], "counts-savepoint-upgrade-1800000000000");
    assert_eq!(
        made["spec"]["jobReference"],
        json!({"kind": "FlinkSessionJob", "name": "counts"})
    );
    let status = played.body("PATCH", STATUS)["status"].clone();
    assert_eq!(
        (
            &status["jobStatus"]["upgradeSavepointPath"],
            &status["lifecycleState"]
        ),
        (&json!("s3://b/sp/1"), &json!("SUSPENDED"))
    );
    assert!(played.reasons().contains(&"SavepointCompleted"));

    let mut resumed = job(spec("running"), status);
    resumed.metadata.generation = Some(3);
    let jobs = answering(Submitted::JobId("id".into()));
    let script = begins(&resumed).expect("PATCH", STATUS, Reply::Resource);
    once(&resumed, reachable(vec![]), &jobs, script).await.0.unwrap();
    let request = jobs.submitted.lock().unwrap()[0].clone();
    assert_eq!(request.operation_id, "uid-3-3");
    assert_eq!(request.restore.unwrap().path, "s3://b/sp/1");
    assert_eq!(
        request.configuration["execution.checkpointing.externalized-checkpoint-retention"],
        "RETAIN_ON_CANCELLATION"
    );
}

/// A running job with this change of its spec, as status records it.
fn running_with(change: Value, status: Value) -> FlinkSessionJob {
    let mut spec = json!({"flinkConfiguration": {
        "execution.checkpointing.dir": "s3://b/c", "execution.checkpointing.savepoint-dir": "s3://b/sp",
    }});
    merge(&mut spec, change);
    let hash = hash_of(&job(spec.clone(), Value::Null));
    let mut all = json!({
        "observedGeneration": 1, "operationId": "uid-3-1", "jobHash": hash, "lifecycleState": "STABLE",
        "jobStarted": true, "jobStatus": {"state": "RUNNING", "jobId": "0123456789abcdef0123456789abcdef"},
    });
    merge(&mut all, status);
    job(spec, all)
}

#[tokio::test]
async fn a_session_jobs_nonce_is_recorded_before_its_snapshot_is_created() {
    let job = running_with(
        json!({"job": {"checkpointTriggerNonce": 2}}),
        json!({"snapshots": {"checkpointTriggerNonce": 1}}),
    );
    let script = Script::new(&job)
        .expect("GET", ITSELF, Reply::Resource)
        .expect("GET", SESSION, the_session())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("POST", "/flinkstatesnapshots", Reply::Echo)
        .expect("PATCH", STATUS, Reply::Resource);
    let watches = reachable(vec![pushed_job("uid-3-1", "RUNNING")]);
    let (outcome, played) = once(&job, watches, &Arc::default(), script).await;
    outcome.unwrap();
    let name = "counts-checkpoint-manual-1800000000000";
    let recorded = &played.requests[2].body["status"]["snapshots"];
    assert_eq!(
        (
            &recorded["checkpointTriggerNonce"],
            &recorded["pending"][0]["name"]
        ),
        (&json!(2), &json!(name))
    );
    let made = played.body("POST", "/flinkstatesnapshots");
    assert_eq!(
        (&made["metadata"]["name"], &made["spec"]["checkpoint"]),
        (&json!(name), &json!({}))
    );
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(status["snapshots"], json!({"checkpointTriggerNonce": 2}));
}

#[tokio::test]
async fn a_session_jobs_redeploy_nonce_cancels_it_and_submits_it_from_its_initial_savepoint() {
    let spec = |nonce: i64| {
        json!({"job": {
            "upgradeMode": "savepoint", "initialSavepointPath": "s3://b/sp/7", "savepointRedeployNonce": nonce,
        }})
    };
    let before = running_with(spec(1), json!({"savepointRedeployNonce": 1}));
    let mut job = running_with(spec(2), Value::Null);
    job.status = before.status;
    job.metadata.generation = Some(2);
    let begins = || {
        Script::new(&job)
            .expect("GET", ITSELF, Reply::Resource)
            .expect("GET", SESSION, the_session())
            .expect("PATCH", STATUS, Reply::Resource)
    };
    let jobs = answering(Submitted::JobId("id".into()));
    let cancelled = CancelJobResponse {
        state: "CANCELLING".into(),
    };
    jobs.cancels.lock().unwrap().push_back(Ok(cancelled));
    let running = reachable(vec![pushed_job("uid-3-1", "RUNNING")]);
    let (outcome, _) = once(&job, running, &jobs, begins()).await;
    outcome.unwrap();
    assert_eq!(jobs.cancelled.lock().unwrap().len(), 1);

    let canceled = reachable(vec![pushed_job("uid-3-1", "CANCELED")]);
    let script = begins().expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&job, canceled, &jobs, script).await;
    outcome.unwrap();
    let intent = &played.requests[2].body["status"];
    assert_eq!(
        (&intent["restorePath"], &intent["savepointRedeployNonce"]),
        (&json!("s3://b/sp/7"), &json!(2))
    );
    let request = jobs.submitted.lock().unwrap()[0].clone();
    assert_eq!(request.restore.unwrap().path, "s3://b/sp/7");
}

#[tokio::test]
async fn a_deleted_session_job_is_stopped_with_a_savepoint_before_its_resource_goes() {
    let option = json!({"flinkConfiguration": {"kubernetes.operator.job.savepoint-on-deletion": true}});
    let mut job = running_with(option, json!({"lifecycleState": "DELETING"}));
    job.metadata.deletion_timestamp = Some(Time(seconds_ago(1)));
    let jobs = Arc::new(FakeJobs::default());
    let begun = thalweg_proto::cluster::v1::TriggerSavepointResponse { failure: None };
    jobs.triggers.lock().unwrap().push_back(Ok(begun));
    let script = Script::new(&job)
        .expect("GET", ITSELF, Reply::Resource)
        .expect("GET", SESSION, the_session())
        .expect("PATCH", STATUS, Reply::Resource);
    let running = reachable(vec![pushed_job("uid-3-1", "RUNNING")]);
    let (outcome, played) = once(&job, running, &jobs, script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(Duration::from_secs(2)));
    let id = "uid-3-delete-1-stop";
    let status = played.body("PATCH", STATUS)["status"].clone();
    assert_eq!(status["savepointOperationId"], id);

    job.status = Some(serde_json::from_value(status).unwrap());
    let mut stopped = pushed_job("uid-3-1", "FINISHED");
    stopped.savepoints = vec![thalweg_proto::cluster::v1::SavepointStatus {
        operation_id: id.into(),
        path: "s3://b/sp/9".into(),
        stops_job: true,
        ended_ms: 1,
        ..Default::default()
    }];
    let script = Script::new(&job)
        .expect("GET", ITSELF, Reply::Resource)
        .expect("GET", SESSION, the_session())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("POST", "/flinkstatesnapshots", Reply::Echo)
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&job, reachable(vec![stopped]), &jobs, script).await;
    assert_eq!(outcome.unwrap(), Action::await_change());
    let made = played.body("POST", "/flinkstatesnapshots");
    assert_eq!(made["spec"]["savepoint"]["path"], "s3://b/sp/9");
    assert_eq!(played.reasons(), ["SavepointCompleted", "Cleanup"]);
}
