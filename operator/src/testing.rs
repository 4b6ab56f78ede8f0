//! What tests share: resources, facts, and a scripted API server.
//!
//! A script is the ordered list of requests that a reconciliation must make, each with its answer. Events are answered
//! by themselves and collected: they are no part of the protocol.

#![allow(clippy::needless_pass_by_value)] // `json!(...)` reads better at the call without `&`

pub(crate) mod server;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use thalweg_crds::{ClusterStatus, FlinkApplication, FlinkSession, FlinkStateSnapshot};
use thalweg_proto::cluster::v1::{
    CancelJobRequest, CancelJobResponse, ClusterSnapshot, JobStatus, RetireResponse, SubmitJobRequest,
    SubmitJobResponse, TriggerSavepointRequest, TriggerSavepointResponse,
};
use tower_test::mock::{self, Handle};

use crate::apply::Applied;
use crate::cluster::{Cluster, ClusterKind};
use crate::cluster_watch::{ClusterWatches, Leader, View};
use crate::context::{Attempts, Context};
use crate::controller::resource::owner_reference;
use crate::job_client::{JobClient, NoAnswer};
use crate::metrics::Metrics;
use crate::snapshot_client::{Begun, Progress, SnapshotCall, SnapshotClient};
use crate::snapshot_index::SnapshotIndex;
use crate::validate::{Invalid, Request as Validation, validate};

/// The tests' present: no test looks at a real clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(crate) fn seconds_ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 - seconds).unwrap()
}

/// A FlinkApplication `default/wc` with this spec over a valid one.
pub(crate) fn application(spec: Value) -> FlinkApplication {
    let mut all = json!({
        "apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkApplication",
        "metadata": {
            "name": "wc", "namespace": "default", "uid": "uid-1", "generation": 1, "resourceVersion": "10",
            "finalizers": ["thalweg.dev/operator"],
        },
        "spec": {"image": "thalweg:1", "job": {"package": {"uri": "local:///opt/wc"}}},
    });
    merge(&mut all["spec"], spec);
    serde_json::from_value(all).unwrap()
}

/// A FlinkSession `default/shared`.
pub(crate) fn session(spec: Value) -> FlinkSession {
    let mut all = json!({
        "apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkSession",
        "metadata": {
            "name": "shared", "namespace": "default", "uid": "uid-2", "generation": 1, "resourceVersion": "10",
            "finalizers": ["thalweg.dev/operator"],
        },
        "spec": {"image": "thalweg:1"},
    });
    merge(&mut all["spec"], spec);
    serde_json::from_value(all).unwrap()
}

/// JSON merge.
pub(crate) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

pub(crate) fn validated(application: &FlinkApplication) -> Result<Cluster, Invalid> {
    let owner = owner_reference(application);
    validate(&Validation {
        kind: ClusterKind::Application,
        metadata: application.meta(),
        owner: &owner,
        fields: &application.spec.cluster,
        job: Some(&application.spec.job),
        status: application.status.as_ref(),
        default_image: Some("default:1"),
    })
}

/// The cluster of an application with this spec.
pub(crate) fn cluster(spec: Value) -> Cluster {
    validated(&application(spec)).unwrap()
}

/// The cluster of a session with this spec.
pub(crate) fn session_cluster(spec: Value) -> Cluster {
    let session = session(spec);
    let owner = owner_reference(&session);
    validate(&Validation {
        kind: ClusterKind::Session,
        metadata: session.meta(),
        owner: &owner,
        fields: &session.spec.cluster,
        job: None,
        status: None,
        default_image: None,
    })
    .unwrap()
}

/// A status whose newest operation is `operation_id` for this cluster as it is.
pub(crate) fn status_of(cluster: &Cluster, operation_id: &str) -> ClusterStatus {
    ClusterStatus {
        operation_id: Some(operation_id.into()),
        job_manager_hash: Some(cluster.job_manager_hash()),
        ..ClusterStatus::default()
    }
}

/// A job as a JobManager tells it.
pub(crate) fn pushed_job(operation_id: &str, state: &str) -> JobStatus {
    JobStatus {
        job_id: "0123456789abcdef0123456789abcdef".into(),
        name: "word count".into(),
        state: state.into(),
        start_time_ms: 1_799_999_000_000,
        state_since_ms: 1_799_999_001_000,
        slots_required: 1,
        operation_id: operation_id.into(),
        ..JobStatus::default()
    }
}

pub(crate) fn snapshot(jobs: Vec<JobStatus>) -> ClusterSnapshot {
    ClusterSnapshot {
        protocol_version: 1,
        epoch: 1,
        slots_total: 2,
        slots_free: 1,
        jobs,
        ..ClusterSnapshot::default()
    }
}

pub(crate) fn view(snapshot: ClusterSnapshot) -> View {
    View {
        leader: Some(Leader {
            pod: "wc-jobmanager-x".into(),
            epoch: snapshot.epoch,
        }),
        snapshot: Some(Arc::new(snapshot)),
        connected: true,
        error: None,
        address: "http://10.0.0.1:6123".into(),
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// The request's own body, as a server-side apply of a new object.
    Echo,
    /// The resource that is reconciled.
    Resource,
    Json(Value),
    /// A failure: code, reason, message.
    Error(u16, &'static str, &'static str),
}

pub(crate) const NOT_FOUND: Reply = Reply::Error(404, "NotFound", "not found");

/// A request that was made.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

/// What a played script leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) requests: Vec<Seen>,
    /// (reason, note) of each event.
    pub(crate) events: Vec<(String, String)>,
}

impl Played {
    /// The body of the last request with this method whose path ends so.
    pub(crate) fn body(&self, method: &str, path_end: &str) -> &Value {
        let found = self
            .requests
            .iter()
            .rev()
            .find(|seen| seen.method == method && seen.path.ends_with(path_end));
        &found.unwrap_or_else(|| panic!("no {method} of {path_end}")).body
    }

    pub(crate) fn reasons(&self) -> Vec<&str> {
        self.events.iter().map(|(reason, _)| reason.as_str()).collect()
    }
}

/// The ordered requests and their answers.
pub(crate) struct Script {
    resource: Value,
    steps: VecDeque<(&'static str, String, Reply)>,
}

impl Script {
    pub(crate) fn new(resource: &impl serde::Serialize) -> Self {
        Self {
            resource: serde_json::to_value(resource).unwrap(),
            steps: VecDeque::new(),
        }
    }

    /// The next request: its method, how its path ends, its answer.
    pub(crate) fn expect(mut self, method: &'static str, path_end: impl Into<String>, reply: Reply) -> Self {
        self.steps.push_back((method, path_end.into(), reply));
        self
    }

    /// The reads with which each pass begins.
    pub(crate) fn expect_reads(self, name: &str, deployment: Reply, pods: Vec<Value>) -> Self {
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
        self.expect("GET", format!("/deployments/{name}-jobmanager"), deployment)
            .expect("GET", "/pods", Reply::Json(list))
    }

    /// What a first pass applies before the pods.
    pub(crate) fn expect_surroundings(mut self, name: &str) -> Self {
        for path in [
            format!("/serviceaccounts/{name}-jobmanager"),
            format!("/leases/{name}-jobmanager"),
            format!("/roles/{name}-jobmanager"),
            format!("/configmaps/{name}-config"),
            format!("/services/{name}-jobmanager"),
            format!("/services/{name}-rest"),
            format!("/rolebindings/{name}-jobmanager"),
        ] {
            self = self.expect("PATCH", path, Reply::Echo);
        }
        self
    }

    /// What a deletion looks for after the pods; `found` is there, the rest isn't.
    pub(crate) fn expect_looks_for_surroundings(mut self, name: &str, found: &[(&str, Value)]) -> Self {
        for path in [
            format!("/serviceaccounts/{name}-jobmanager"),
            format!("/leases/{name}-jobmanager"),
            format!("/roles/{name}-jobmanager"),
            format!("/rolebindings/{name}-jobmanager"),
            format!("/configmaps/{name}-config"),
            format!("/services/{name}-jobmanager"),
            format!("/services/{name}-rest"),
            format!("/ingresses/{name}-rest"),
            format!("/poddisruptionbudgets/{name}-jobmanager"),
        ] {
            let reply = match found.iter().find(|(end, _)| *end == path) {
                Some((_, metadata)) => Reply::Json(json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata,
                })),
                None => NOT_FOUND,
            };
            self = self.expect("GET", path, reply);
        }
        self
    }

    /// Runs `work` against this API server; fails if a request differs or is missing.
    pub(crate) async fn play<T>(self, work: impl AsyncFnOnce(Client) -> T) -> (T, Played) {
        let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
        let server = tokio::spawn(self.serve(handle));
        let outcome = work(Client::new(service, "default")).await;
        (outcome, server.await.unwrap())
    }

    async fn serve(mut self, mut handle: Handle<Request<Body>, Response<Body>>) -> Played {
        let mut played = Played::default();
        while let Some((request, answer)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
            if path.ends_with("/events") || path.contains("/events/") {
                let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
                played.events.push((text("reason"), text("note")));
                answer.send_response(respond(Reply::Echo, &self.resource, body));
                continue;
            }
            let Some((expected_method, path_end, reply)) = self.steps.pop_front() else {
                panic!("unexpected {method} {path} {body}");
            };
            assert!(
                method == expected_method && path.ends_with(&path_end),
                "expected {expected_method} {path_end}, got {method} {path} {body}"
            );
            let query = parts.uri.query().unwrap_or_default().to_owned();
            played.requests.push(Seen {
                method,
                path,
                query,
                body: body.clone(),
            });
            answer.send_response(respond(reply, &self.resource, body));
        }
        assert!(
            self.steps.is_empty(),
            "requests that were not made: {:?}",
            self.steps
        );
        played
    }
}

fn respond(reply: Reply, resource: &Value, mut body: Value) -> Response<Body> {
    let (code, body) = match reply {
        Reply::Echo => {
            body["metadata"]["resourceVersion"] = json!("1");
            (200, body)
        }
        Reply::Resource => (200, resource.clone()),
        Reply::Json(value) => (200, value),
        Reply::Error(code, reason, message) => (
            code,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": message}),
        ),
    };
    let bytes = serde_json::to_vec(&body).unwrap();
    Response::builder()
        .status(StatusCode::from_u16(code).unwrap())
        .body(Body::from(bytes))
        .unwrap()
}

/// A session's JobManager that answers by a list.
#[derive(Default)]
pub(crate) struct FakeJobs {
    pub(crate) submits: Mutex<VecDeque<Result<SubmitJobResponse, NoAnswer>>>,
    pub(crate) cancels: Mutex<VecDeque<Result<CancelJobResponse, NoAnswer>>>,
    pub(crate) submitted: Mutex<Vec<SubmitJobRequest>>,
    pub(crate) cancelled: Mutex<Vec<CancelJobRequest>>,
    pub(crate) triggers: Mutex<VecDeque<Result<TriggerSavepointResponse, NoAnswer>>>,
    pub(crate) triggered: Mutex<Vec<TriggerSavepointRequest>>,
    pub(crate) retirements: Mutex<VecDeque<Result<RetireResponse, NoAnswer>>>,
}

impl JobClient for FakeJobs {
    fn submit<'a>(
        &'a self,
        _: &'a str,
        request: SubmitJobRequest,
    ) -> BoxFuture<'a, Result<SubmitJobResponse, NoAnswer>> {
        self.submitted.lock().unwrap().push(request);
        let answer = self
            .submits
            .lock()
            .unwrap()
            .pop_front()
            .expect("an unexpected submission");
        Box::pin(async move { answer })
    }

    fn cancel<'a>(
        &'a self,
        _: &'a str,
        request: CancelJobRequest,
    ) -> BoxFuture<'a, Result<CancelJobResponse, NoAnswer>> {
        self.cancelled.lock().unwrap().push(request);
        let answer = self
            .cancels
            .lock()
            .unwrap()
            .pop_front()
            .expect("an unexpected cancellation");
        Box::pin(async move { answer })
    }

    fn trigger_savepoint<'a>(
        &'a self,
        _: &'a str,
        request: TriggerSavepointRequest,
    ) -> BoxFuture<'a, Result<TriggerSavepointResponse, NoAnswer>> {
        self.triggered.lock().unwrap().push(request);
        let answer = self
            .triggers
            .lock()
            .unwrap()
            .pop_front()
            .expect("an unexpected savepoint");
        Box::pin(async move { answer })
    }

    fn retire<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<RetireResponse, NoAnswer>> {
        let answer = self.retirements.lock().unwrap().pop_front();
        let answer = answer.expect("an unexpected retirement");
        Box::pin(async move { answer })
    }
}

/// A JobManager's REST that answers by a list.
#[derive(Default)]
pub(crate) struct FakeRest {
    pub(crate) begun: Mutex<VecDeque<Result<Begun, NoAnswer>>>,
    pub(crate) progress: Mutex<VecDeque<Progress>>,
    pub(crate) disposals: Mutex<VecDeque<Progress>>,
    /// What was asked, in this order.
    pub(crate) asked: Mutex<Vec<String>>,
}

impl FakeRest {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl SnapshotClient for FakeRest {
    fn trigger<'a>(&'a self, _: &'a str, call: &'a SnapshotCall) -> BoxFuture<'a, Result<Begun, NoAnswer>> {
        self.note(format!("trigger {}", call.trigger_id));
        let answer = self.begun.lock().unwrap().pop_front();
        let answer = answer.expect("an unexpected trigger");
        Box::pin(async move { answer })
    }

    fn progress<'a>(
        &'a self,
        _: &'a str,
        call: &'a SnapshotCall,
    ) -> BoxFuture<'a, Result<Progress, NoAnswer>> {
        self.note(format!("progress {}", call.trigger_id));
        let answer = self.progress.lock().unwrap().pop_front();
        let answer = answer.expect("an unexpected question");
        Box::pin(async move { Ok(answer) })
    }

    fn dispose<'a>(&'a self, _: &'a str, path: &'a str) -> BoxFuture<'a, Result<String, NoAnswer>> {
        self.note(format!("dispose {path}"));
        Box::pin(async { Ok("disposal-1".to_owned()) })
    }

    fn disposal<'a>(&'a self, _: &'a str, id: &'a str) -> BoxFuture<'a, Result<Progress, NoAnswer>> {
        self.note(format!("disposal {id}"));
        let answer = self.disposals.lock().unwrap().pop_front();
        let answer = answer.expect("an unexpected question");
        Box::pin(async move { Ok(answer) })
    }
}

/// A FlinkStateSnapshot `default/snap` of application `wc`.
pub(crate) fn state_snapshot(spec: Value, status: Value) -> FlinkStateSnapshot {
    let mut all = json!({
        "apiVersion": "thalweg.dev/v1alpha1", "kind": "FlinkStateSnapshot",
        "metadata": {
            "name": "snap", "namespace": "default", "uid": "uid-9", "generation": 1, "resourceVersion": "10",
            "labels": {},
        },
        "spec": {"jobReference": {"kind": "FlinkApplication", "name": "wc"}},
        "status": status,
    });
    merge(&mut all["spec"], spec);
    serde_json::from_value(all).unwrap()
}

/// A context on a scripted API server.
pub(crate) fn context(client: Client, watches: ClusterWatches, jobs: Arc<FakeJobs>) -> Arc<Context> {
    Arc::new(plain_context(client, watches, jobs))
}

/// The same, to be changed.
pub(crate) fn plain_context(client: Client, watches: ClusterWatches, jobs: Arc<FakeJobs>) -> Context {
    let reporter = Reporter {
        controller: "thalweg-operator".into(),
        instance: Some("test".into()),
    };
    Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        metrics: Arc::new(Metrics::new().unwrap()),
        watches,
        jobs,
        snapshot_client: Arc::new(FakeRest::default()),
        snapshots: SnapshotIndex::default(),
        applied: Applied::default(),
        default_image: Some("default:1".into()),
        clock: now,
        attempts: Attempts::default(),
    }
}

/// A TaskManager pod's JSON, as the API server has it.
pub(crate) fn task_manager_pod(cluster: &Cluster, ordinal: u32, status: Value) -> Value {
    let pod = crate::build::task_manager(cluster, &cluster.task_manager_hash(), ordinal);
    let mut value = serde_json::to_value(&pod).unwrap();
    value["metadata"]["uid"] = json!(format!("tm-{ordinal}"));
    value["status"] = status;
    value
}

/// The JobManager's Deployment and its pod, as the API server has them.
pub(crate) fn job_manager_objects(cluster: &Cluster, operation_id: &str, status: Value) -> (Value, Value) {
    let hash = cluster.job_manager_hash();
    let deployment = crate::build::job_manager(cluster, &hash, operation_id, None);
    let labels = deployment
        .spec
        .as_ref()
        .unwrap()
        .template
        .metadata
        .as_ref()
        .unwrap()
        .labels
        .clone();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{}-x", deployment.name_any()), "uid": "jm-1", "labels": labels},
        "spec": {"containers": []}, "status": status,
    });
    (serde_json::to_value(&deployment).unwrap(), pod)
}
