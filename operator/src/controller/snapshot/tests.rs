//! FlinkStateSnapshots against a scripted API server and a JobManager that answers by a list.

#![allow(clippy::needless_pass_by_value)] // `json!(...)` reads better at the call without `&`

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use serde_json::{Value, json};

use super::*;
use crate::cluster_watch::ClusterWatches;
use crate::job_client::NoAnswer;
use crate::plan::snapshot::trigger_id;
use crate::testing::{
    FakeRest, NOT_FOUND, Played, Reply, Script, application, plain_context, pushed_job, seconds_ago,
    server::{Kill, Server},
    snapshot as pushed, state_snapshot, view,
};

const ITSELF: &str = "/flinkstatesnapshots/snap";
const STATUS: &str = "/flinkstatesnapshots/snap/status";
const APPLICATION: &str = "/flinkapplications/wc";
const JOB: &str = "0123456789abcdef0123456789abcdef";

fn savepoint(status: Value) -> FlinkStateSnapshot {
    let mut snapshot = state_snapshot(json!({"savepoint": {"path": "s3://b/sp"}}), status);
    snapshot.metadata.finalizers = Some(vec!["thalweg.dev/operator".into()]);
    snapshot
}

/// One without a finalizer, labelled as it is.
fn checkpoint(status: Value) -> FlinkStateSnapshot {
    let state = status["state"].as_str().unwrap_or("TRIGGER_PENDING").to_owned();
    let mut snapshot = state_snapshot(json!({"checkpoint": {}}), status);
    for (key, value) in [
        ("snapshot.type", "CHECKPOINT"),
        ("snapshot.trigger-type", "PERIODIC"),
        ("snapshot.state", state.as_str()),
        ("job-reference.kind", "FlinkApplication"),
        ("job-reference.name", "wc"),
    ] {
        snapshot.labels_mut().insert(key.into(), value.into());
    }
    snapshot
}

fn the_application() -> Reply {
    let mut running = application(json!({}));
    running.status = Some(serde_json::from_value(json!({"operationId": "uid-1-1"})).unwrap());
    Reply::Json(serde_json::to_value(running).unwrap())
}

fn saying(job_state: &str) -> ClusterWatches {
    let watches = ClusterWatches::new();
    let key = ClusterKey {
        kind: ClusterKind::Application,
        namespace: "default".into(),
        name: "wc".into(),
    };
    watches.set_view(&key, "jm", view(pushed(vec![pushed_job("uid-1-1", job_state)])));
    watches
}

fn with_rest(client: Client, watches: ClusterWatches, rest: Arc<FakeRest>) -> Arc<Context> {
    let mut context = plain_context(client, watches, Arc::default());
    context.snapshot_client = rest;
    Arc::new(context)
}

async fn once(
    snapshot: &FlinkStateSnapshot,
    watches: ClusterWatches,
    rest: &Arc<FakeRest>,
    script: Script,
) -> (Result<Action, ReconcileError>, Played) {
    let (snapshot, rest) = (Arc::new(snapshot.clone()), rest.clone());
    script
        .play(async move |client| reconcile(snapshot, with_rest(client, watches, rest)).await)
        .await
}

fn begins(snapshot: &FlinkStateSnapshot) -> Script {
    Script::new(snapshot).expect("GET", ITSELF, Reply::Resource)
}

fn answering(begun: Begun) -> Arc<FakeRest> {
    let rest = FakeRest::default();
    rest.begun.lock().unwrap().push_back(Ok(begun));
    Arc::new(rest)
}

fn going(progress: Progress) -> Arc<FakeRest> {
    let rest = FakeRest::default();
    rest.progress.lock().unwrap().push_back(progress);
    Arc::new(rest)
}

#[tokio::test]
async fn a_snapshots_id_is_recorded_before_it_is_triggered() {
    let snapshot = checkpoint(Value::Null);
    let rest = answering(Begun::Yes);
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(PROGRESS_RECHECK));
    let id = trigger_id("uid-9", 0);
    let intent = &played.requests[2].body["status"];
    assert_eq!(
        (&intent["state"], &intent["triggerId"], &intent["jobId"]),
        (&json!("TRIGGER_PENDING"), &json!(id), &json!(JOB))
    );
    assert_eq!(rest.asked(), [format!("trigger {id}")]);
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(status["state"], "IN_PROGRESS");
    let labels = &played.body("PATCH", ITSELF)["metadata"]["labels"];
    assert_eq!(labels, &json!({"snapshot.state": "IN_PROGRESS"}));
    assert_eq!(played.reasons(), ["SnapshotTriggered"]);
}

/// Whatever was written before the operator ended: one id is triggered, and one snapshot taken.
#[tokio::test]
async fn an_operator_that_ends_between_any_two_writes_triggers_nothing_twice() {
    let id = trigger_id("uid-9", 0);
    let recorded =
        json!({"state": "TRIGGER_PENDING", "triggerId": id, "jobId": JOB, "observedGeneration": 1});
    for (status, writes_intent) in [(Value::Null, true), (recorded, false)] {
        let snapshot = checkpoint(status);
        let rest = answering(Begun::Yes);
        let mut script = begins(&snapshot).expect("GET", APPLICATION, the_application());
        if writes_intent {
            script = script.expect("PATCH", STATUS, Reply::Resource);
        }
        let script = script.expect(
            "PATCH",
            STATUS,
            Reply::Error(500, "InternalError", "etcd is away"),
        );
        let (outcome, _) = once(&snapshot, saying("RUNNING"), &rest, script).await;
        assert!(outcome.is_err());
        assert_eq!(rest.asked(), [format!("trigger {id}")]);
    }
}

#[tokio::test]
async fn a_job_manager_that_gives_no_answer_is_asked_again_under_the_same_id() {
    let snapshot = checkpoint(Value::Null);
    let rest = Arc::new(FakeRest::default());
    let no_answer = Err(NoAnswer("Unavailable: gone".into()));
    rest.begun.lock().unwrap().push_back(no_answer);
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    assert_eq!(outcome.unwrap_err().reason(), "JobManagerUnreachable");
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(
        (&status["state"], &status["failures"]),
        (&json!("TRIGGER_PENDING"), &Value::Null)
    );
}

fn in_progress() -> Value {
    json!({"state": "IN_PROGRESS", "triggerId": "t", "jobId": JOB, "observedGeneration": 1})
}

#[tokio::test]
async fn a_snapshot_that_is_there_is_complete_with_its_path() {
    let snapshot = checkpoint(in_progress());
    let rest = going(Progress::Completed(Some("s3://b/c/j/chk-9".into())));
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    outcome.unwrap();
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(
        (&status["state"], &status["path"]),
        (&json!("COMPLETED"), &json!("s3://b/c/j/chk-9"))
    );
    let ready = &status["conditions"][0];
    assert_eq!(
        (&ready["type"], &ready["status"]),
        (&json!("Ready"), &json!("True"))
    );
    assert_eq!(played.reasons(), ["SnapshotCompleted"]);
    // It is left alone from then on.
    let done = checkpoint(status.clone());
    let (outcome, _) = once(&done, saying("RUNNING"), &Arc::default(), Script::new(&done)).await;
    assert_eq!(outcome.unwrap(), Action::requeue(RESYNC));
}

#[tokio::test]
async fn a_failed_attempt_is_told_and_tried_again_until_the_limit() {
    let mut snapshot = checkpoint(in_progress());
    snapshot.spec.backoff_limit = Some(1);
    let rest = going(Progress::Failed("the disk is full".into()));
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(Duration::from_secs(10)));
    let status = played.body("PATCH", STATUS)["status"].clone();
    assert_eq!(
        (&status["state"], &status["failures"], &status["triggerId"]),
        (&json!("TRIGGER_PENDING"), &json!(1), &Value::Null)
    );
    assert_eq!(
        played.events,
        [("SnapshotError".to_owned(), "the disk is full".to_owned())]
    );

    let mut second = status;
    second["state"] = "IN_PROGRESS".into();
    second["triggerId"] = "t2".into();
    second["jobId"] = JOB.into();
    let mut snapshot = checkpoint(second);
    snapshot.spec.backoff_limit = Some(1);
    let rest = going(Progress::Unknown);
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (_, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(
        (&status["state"], &status["failures"]),
        (&json!("FAILED"), &json!(2))
    );
    assert!(status["error"].as_str().unwrap().contains("started anew"));
}

#[tokio::test]
async fn a_refused_trigger_is_a_failed_attempt() {
    let mut snapshot = checkpoint(Value::Null);
    snapshot.spec.backoff_limit = Some(0);
    let rest = answering(Begun::Refused("the job has no folder for checkpoints".into()));
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    outcome.unwrap();
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(
        (&status["state"], &status["error"]),
        (&json!("FAILED"), &json!("the job has no folder for checkpoints"))
    );
}

#[tokio::test]
async fn a_snapshot_of_a_job_that_is_not_there_is_abandoned() {
    let snapshot = checkpoint(Value::Null);
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, NOT_FOUND)
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, ClusterWatches::new(), &Arc::default(), script).await;
    outcome.unwrap();
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(
        (&status["state"], &status["error"]),
        (
            &json!("ABANDONED"),
            &json!("there is no FlinkApplication wc in this namespace")
        )
    );
    assert_eq!(played.reasons(), ["SnapshotAbandoned"]);
}

#[tokio::test]
async fn a_new_snapshot_waits_for_a_job_that_is_created_behind_it() {
    let mut snapshot = checkpoint(Value::Null);
    snapshot.metadata.creation_timestamp = Some(Time(seconds_ago(5)));
    let script =
        begins(&snapshot)
            .expect("GET", APPLICATION, NOT_FOUND)
            .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&snapshot, ClusterWatches::new(), &Arc::default(), script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(JOB_RECHECK));
    let status = &played.body("PATCH", STATUS)["status"];
    assert_eq!(status["state"], "TRIGGER_PENDING");
    let message = status["conditions"][1]["message"].as_str().unwrap();
    assert!(message.ends_with("in this namespace yet"), "{message}");
}

#[tokio::test]
async fn a_job_that_starts_or_restarts_is_waited_for() {
    for watches in [ClusterWatches::new(), saying("RESTARTING")] {
        let snapshot = checkpoint(Value::Null);
        let script = begins(&snapshot)
            .expect("GET", APPLICATION, the_application())
            .expect("PATCH", STATUS, Reply::Resource);
        let (outcome, played) = once(&snapshot, watches, &Arc::default(), script).await;
        assert_eq!(outcome.unwrap(), Action::requeue(JOB_RECHECK));
        let status = played.body("PATCH", STATUS)["status"].clone();
        assert_eq!(
            (&status["state"], &status["error"]),
            (&json!("TRIGGER_PENDING"), &Value::Null)
        );
        assert_eq!(played.events, []);
    }
}

#[tokio::test]
async fn a_savepoint_that_goes_with_its_resource_gets_a_finalizer_first_and_its_labels() {
    let mut snapshot = savepoint(Value::Null);
    snapshot.metadata.finalizers = None;
    let rest = answering(Begun::Yes);
    let script = begins(&snapshot)
        .expect("PATCH", ITSELF, Reply::Resource)
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    outcome.unwrap();
    assert_eq!(
        played.requests[1].body["metadata"]["finalizers"],
        json!(["thalweg.dev/operator"])
    );
    let labels = &played.body("PATCH", ITSELF)["metadata"]["labels"];
    assert_eq!(
        labels,
        &json!({
            "snapshot.type": "SAVEPOINT", "snapshot.trigger-type": "MANUAL", "snapshot.state": "IN_PROGRESS",
            "job-reference.kind": "FlinkApplication", "job-reference.name": "wc",
        })
    );
}

#[tokio::test]
async fn a_savepoint_that_is_to_stay_loses_the_finalizer() {
    let mut snapshot = savepoint(json!({"state": "COMPLETED", "path": "s3://b/sp/1"}));
    if let Some(savepoint) = &mut snapshot.spec.savepoint {
        savepoint.dispose_on_delete = Some(false);
    }
    let script = Script::new(&snapshot)
        .expect("PATCH", ITSELF, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, ClusterWatches::new(), &Arc::default(), script).await;
    outcome.unwrap();
    assert_eq!(played.requests[0].body["metadata"]["finalizers"], json!([]));
}

fn deleted(status: Value, seconds: i64) -> FlinkStateSnapshot {
    let mut snapshot = savepoint(status);
    snapshot.metadata.deletion_timestamp = Some(Time(seconds_ago(seconds)));
    snapshot
}

fn completed() -> Value {
    json!({"state": "COMPLETED", "triggerId": "t", "jobId": JOB, "path": "s3://b/sp/1"})
}

#[tokio::test]
async fn a_deleted_savepoint_is_disposed_of_before_its_resource_goes() {
    let snapshot = deleted(completed(), 0);
    let rest = Arc::new(FakeRest::default());
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(DISPOSAL_RECHECK));
    let status = played.body("PATCH", STATUS)["status"].clone();
    assert_eq!(status["disposalId"], "disposal-1");

    let snapshot = deleted(status, 1);
    rest.disposals
        .lock()
        .unwrap()
        .push_back(Progress::Completed(None));
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    assert_eq!(outcome.unwrap(), Action::await_change());
    assert_eq!(rest.asked(), ["dispose s3://b/sp/1", "disposal disposal-1"]);
    assert_eq!(played.body("PATCH", ITSELF)["metadata"]["finalizers"], json!([]));
    assert_eq!(played.reasons(), ["Cleanup"]);
}

#[tokio::test]
async fn a_disposal_that_fails_or_is_forgotten_is_begun_again() {
    let mut status = completed();
    status["disposalId"] = "disposal-0".into();
    for progress in [Progress::Failed("denied".into()), Progress::Unknown] {
        let snapshot = deleted(status.clone(), 1);
        let rest = Arc::new(FakeRest::default());
        rest.disposals.lock().unwrap().push_back(progress);
        let script = begins(&snapshot)
            .expect("GET", APPLICATION, the_application())
            .expect("PATCH", STATUS, Reply::Resource);
        let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
        assert_eq!(outcome.unwrap(), Action::requeue(DISPOSAL_RETRY));
        let status = &played.body("PATCH", STATUS)["status"];
        assert_eq!(
            (&status["disposalId"], &status["path"]),
            (&Value::Null, &json!("s3://b/sp/1"))
        );
        assert_eq!(played.reasons(), ["SnapshotError"]);
    }
}

#[tokio::test]
async fn a_savepoint_whose_job_is_gone_lets_its_resource_go_and_is_told() {
    let snapshot = deleted(completed(), 0);
    let script =
        begins(&snapshot)
            .expect("GET", APPLICATION, NOT_FOUND)
            .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, ClusterWatches::new(), &Arc::default(), script).await;
    assert_eq!(outcome.unwrap(), Action::await_change());
    let (reason, note) = &played.events[0];
    assert_eq!(reason, "CleanupFailed");
    assert!(note.contains("s3://b/sp/1 stays in storage"), "{note}");
}

#[tokio::test]
async fn a_snapshot_that_is_deleted_while_it_is_taken_is_followed_to_its_end() {
    let snapshot = deleted(in_progress(), 1);
    let rest = going(Progress::Completed(Some("s3://b/sp/1".into())));
    let script = begins(&snapshot)
        .expect("GET", APPLICATION, the_application())
        .expect("GET", APPLICATION, the_application())
        .expect("PATCH", STATUS, Reply::Resource);
    let (outcome, played) = once(&snapshot, saying("RUNNING"), &rest, script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(Duration::ZERO));
    assert_eq!(played.body("PATCH", STATUS)["status"]["path"], "s3://b/sp/1");
}

#[tokio::test]
async fn a_session_jobs_snapshot_is_asked_of_its_session() {
    let mut snapshot = checkpoint(Value::Null);
    snapshot.spec.job_reference = Some(JobReference {
        kind: JobKind::FlinkSessionJob,
        name: "counts".into(),
    });
    let job = json!({
        "apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkSessionJob",
        "metadata": {"name": "counts", "namespace": "default", "uid": "uid-3"},
        "spec": {"sessionName": "shared", "job": {"package": {"uri": "local:///opt/counts"}}},
        "status": {"operationId": "uid-3-1"},
    });
    let watches = ClusterWatches::new();
    let key = ClusterKey {
        kind: ClusterKind::Session,
        namespace: "default".into(),
        name: "shared".into(),
    };
    watches.set_view(&key, "jm", view(pushed(vec![pushed_job("uid-3-1", "RUNNING")])));
    let rest = answering(Begun::Yes);
    let script = begins(&snapshot)
        .expect("GET", "/flinksessionjobs/counts", Reply::Json(job))
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", STATUS, Reply::Resource)
        .expect("PATCH", ITSELF, Reply::Resource);
    let (outcome, played) = once(&snapshot, watches, &rest, script).await;
    outcome.unwrap();
    assert_eq!(played.body("PATCH", STATUS)["status"]["state"], "IN_PROGRESS");
}

/// Remembers which snapshots it was asked for, and completes each.
#[derive(Default)]
struct RememberingRest {
    taken: std::sync::Mutex<std::collections::BTreeSet<String>>,
    disposed: std::sync::Mutex<Vec<String>>,
}

impl crate::snapshot_client::SnapshotClient for RememberingRest {
    fn trigger<'a>(
        &'a self,
        _: &'a str,
        call: &'a SnapshotCall,
    ) -> futures::future::BoxFuture<'a, Result<Begun, NoAnswer>> {
        self.taken.lock().unwrap().insert(call.trigger_id.clone());
        Box::pin(async { Ok(Begun::Yes) })
    }

    fn progress<'a>(
        &'a self,
        _: &'a str,
        call: &'a SnapshotCall,
    ) -> futures::future::BoxFuture<'a, Result<Progress, NoAnswer>> {
        let known = self.taken.lock().unwrap().contains(&call.trigger_id);
        Box::pin(async move {
            Ok(if known {
                Progress::Completed(Some("s3://b/sp/1".into()))
            } else {
                Progress::Unknown
            })
        })
    }

    fn dispose<'a>(
        &'a self,
        _: &'a str,
        path: &'a str,
    ) -> futures::future::BoxFuture<'a, Result<String, NoAnswer>> {
        self.disposed.lock().unwrap().push(path.into());
        Box::pin(async { Ok("d".to_owned()) })
    }

    fn disposal<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> futures::future::BoxFuture<'a, Result<Progress, NoAnswer>> {
        Box::pin(async { Ok(Progress::Completed(None)) })
    }
}

/// One pass over what the server has.
async fn pass_on(server: &Server, kill: Kill, rest: &Arc<RememberingRest>) -> usize {
    let snapshot: FlinkStateSnapshot = server.get("flinkstatesnapshots", "snap");
    let rest = rest.clone();
    let (_, writes) = server
        .run(kill, async move |client| {
            let mut context = plain_context(client, saying("RUNNING"), Arc::default());
            context.snapshot_client = rest;
            reconcile(Arc::new(snapshot), Arc::new(context)).await
        })
        .await;
    writes
}

/// The whole way, with the operator killed before or behind each of its writes in turn: one snapshot is taken, its path is told, and it
/// is deleted with its resource.
#[tokio::test]
async fn killed_before_or_behind_any_write_one_snapshot_is_taken_and_disposed_of() {
    let kills = (0..4).flat_map(|at| [Kill::Before(at), Kill::Behind(at)]);
    for kill in kills {
        for killed_pass in 0..3 {
            let server = Server::default();
            let mut snapshot = savepoint(Value::Null);
            snapshot.metadata.finalizers = None;
            server.put("flinkstatesnapshots", &snapshot);
            let Reply::Json(application) = the_application() else {
                unreachable!()
            };
            server.put("flinkapplications", &application);
            let rest = Arc::new(RememberingRest::default());
            for pass in 0..6 {
                let kill = if pass == killed_pass { kill } else { Kill::Never };
                pass_on(&server, kill, &rest).await;
            }
            let done: FlinkStateSnapshot = server.get("flinkstatesnapshots", "snap");
            let status = done.status.clone().unwrap_or_default();
            assert_eq!(
                (status.state, status.path.as_deref(), status.failures),
                (Some(SnapshotState::Completed), Some("s3://b/sp/1"), None),
                "{kill:?} in pass {killed_pass}"
            );
            assert_eq!(
                rest.taken.lock().unwrap().len(),
                1,
                "{kill:?} in pass {killed_pass}"
            );
            assert_eq!(done.labels()["snapshot.state"], "COMPLETED");

            let mut going = done;
            going.metadata.deletion_timestamp = Some(Time(seconds_ago(0)));
            server.put("flinkstatesnapshots", &going);
            for pass in 0..4 {
                let kill = if pass == killed_pass { kill } else { Kill::Never };
                pass_on(&server, kill, &rest).await;
            }
            let gone: FlinkStateSnapshot = server.get("flinkstatesnapshots", "snap");
            assert_eq!(
                gone.finalizers(),
                Vec::<String>::new(),
                "{kill:?} in pass {killed_pass}"
            );
            let mut disposed = rest.disposed.lock().unwrap().clone();
            disposed.dedup();
            assert_eq!(disposed, ["s3://b/sp/1"], "again only of what may not have begun");
        }
    }
}
