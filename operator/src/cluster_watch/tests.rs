//! The stream, against a JobManager of this process.

use std::sync::atomic::{AtomicU32, Ordering};

use futures::StreamExt;
use futures::stream::BoxStream;
use thalweg_proto::cluster::v1::cluster_server::{Cluster, ClusterServer};
use thalweg_proto::cluster::v1::{
    CancelJobRequest, CancelJobResponse, RetireRequest, RetireResponse, SubmitJobRequest, SubmitJobResponse,
    TriggerSavepointRequest, TriggerSavepointResponse, submit_job_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

use super::*;
use crate::job_client::{GrpcJobClient, JobClient};
use crate::testing::{pushed_job, snapshot};

/// Sends what the test sends; each stream that is opened takes the next receiver.
struct JobManager {
    streams: tokio::sync::Mutex<mpsc::Receiver<mpsc::Receiver<Result<ClusterSnapshot, Status>>>>,
    opened: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl Cluster for JobManager {
    type WatchClusterStream = BoxStream<'static, Result<ClusterSnapshot, Status>>;

    async fn watch_cluster(
        &self,
        _: Request<WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        let next = self.streams.lock().await.recv().await;
        let next = next.ok_or_else(|| Status::unavailable("no more streams"))?;
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(ReceiverStream::new(next).boxed()))
    }

    async fn submit_job(
        &self,
        request: Request<SubmitJobRequest>,
    ) -> Result<Response<SubmitJobResponse>, Status> {
        let id = request.into_inner().operation_id;
        Ok(Response::new(SubmitJobResponse {
            result: Some(submit_job_response::Result::JobId(id)),
        }))
    }

    async fn cancel_job(&self, _: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        Err(Status::internal("broken"))
    }

    async fn trigger_savepoint(
        &self,
        request: Request<TriggerSavepointRequest>,
    ) -> Result<Response<TriggerSavepointResponse>, Status> {
        let failure = thalweg_proto::control::v1::Failure {
            message: request.into_inner().operation_id,
            ..Default::default()
        };
        Ok(Response::new(TriggerSavepointResponse {
            failure: Some(failure),
        }))
    }

    async fn retire(&self, _: Request<RetireRequest>) -> Result<Response<RetireResponse>, Status> {
        Err(Status::unimplemented("an engine of yesterday"))
    }
}

struct Harness {
    address: String,
    streams: mpsc::Sender<mpsc::Receiver<Result<ClusterSnapshot, Status>>>,
    opened: Arc<AtomicU32>,
}

async fn job_manager() -> Harness {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (streams, receiver) = mpsc::channel(8);
    let opened = Arc::new(AtomicU32::new(0));
    let service = ClusterServer::new(JobManager {
        streams: tokio::sync::Mutex::new(receiver),
        opened: opened.clone(),
    });
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    Harness {
        address,
        streams,
        opened,
    }
}

impl Harness {
    fn candidate(&self, pod: &str) -> Candidate {
        Candidate {
            pod: pod.to_owned(),
            address: self.address.clone(),
        }
    }

    /// The next stream that is asked for is refused as a standby refuses.
    async fn stand_by_for(&self, leader: &Harness, epoch: u64) {
        let address = leader.address.trim_start_matches("http://");
        let refusal = format!("standby; the leader is {address} (epoch {epoch})");
        let stream = self.open().await;
        stream
            .send(Err(Status::failed_precondition(refusal)))
            .await
            .unwrap();
    }

    async fn open(&self) -> mpsc::Sender<Result<ClusterSnapshot, Status>> {
        let (sender, receiver) = mpsc::channel(8);
        self.streams.send(receiver).await.unwrap();
        sender
    }
}

fn key() -> ClusterKey {
    ClusterKey {
        kind: ClusterKind::Application,
        namespace: "default".into(),
        name: "wc".into(),
    }
}

/// One pod, without an election.
fn alone(pod: &str, harness: &Harness) -> JobManagers {
    JobManagers {
        incarnation: pod.to_owned(),
        elected: false,
        candidates: vec![harness.candidate(pod)],
    }
}

/// Pods that elect a leader.
fn elected(pods: &[(&str, &Harness)]) -> JobManagers {
    JobManagers {
        incarnation: "op hash".into(),
        elected: true,
        candidates: pods.iter().map(|(pod, harness)| harness.candidate(pod)).collect(),
    }
}

fn led(epoch: u64, state: &str) -> ClusterSnapshot {
    ClusterSnapshot {
        epoch,
        ..snapshot(vec![pushed_job("op", state)])
    }
}

fn leader(watches: &ClusterWatches) -> (String, u64) {
    let leader = watches.view(&key()).unwrap().leader.unwrap();
    (leader.pod, leader.epoch)
}

fn states(watches: &ClusterWatches) -> Vec<String> {
    let view = watches.view(&key()).unwrap();
    view.snapshot
        .iter()
        .flat_map(|snapshot| &snapshot.jobs)
        .map(|job| job.state.clone())
        .collect()
}

#[tokio::test]
async fn a_snapshot_is_stored_and_triggers() {
    let harness = job_manager().await;
    let stream = harness.open().await;
    let watches = ClusterWatches::new();
    let mut triggers = watches.subscribe();
    watches.follow(&key(), alone("pod-1", &harness));
    stream
        .send(Ok(snapshot(vec![pushed_job("op", "CREATED")])))
        .await
        .unwrap();
    assert_eq!(triggers.recv().await.unwrap(), key());
    assert_eq!(
        (states(&watches), watches.connected()),
        (vec!["CREATED".to_owned()], 1)
    );
}

#[tokio::test]
async fn a_sign_of_life_without_news_triggers_nothing() {
    let harness = job_manager().await;
    let stream = harness.open().await;
    let watches = ClusterWatches::new();
    let mut triggers = watches.subscribe();
    watches.follow(&key(), alone("pod-1", &harness));
    for state in ["RUNNING", "RUNNING", "RUNNING", "FINISHED"] {
        stream
            .send(Ok(snapshot(vec![pushed_job("op", state)])))
            .await
            .unwrap();
    }
    triggers.recv().await.unwrap();
    triggers.recv().await.unwrap();
    assert_eq!(states(&watches), ["FINISHED"]);
    assert!(triggers.try_recv().is_err());
}

#[tokio::test]
async fn a_broken_stream_is_opened_again_and_says_so_meanwhile() {
    let harness = job_manager().await;
    let first = harness.open().await;
    let watches = ClusterWatches::new();
    let mut triggers = watches.subscribe();
    watches.follow(&key(), alone("pod-1", &harness));
    first.send(Ok(snapshot(vec![]))).await.unwrap();
    triggers.recv().await.unwrap();
    first.send(Err(Status::unavailable("going"))).await.unwrap();
    triggers.recv().await.unwrap();
    let view = watches.view(&key()).unwrap();
    assert!(!view.connected && view.error.unwrap().contains("going"));
    let second = harness.open().await;
    second
        .send(Ok(snapshot(vec![pushed_job("op", "RUNNING")])))
        .await
        .unwrap();
    triggers.recv().await.unwrap();
    assert!(watches.view(&key()).unwrap().connected);
    assert_eq!(harness.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn another_pod_begins_with_an_empty_view() {
    let harness = job_manager().await;
    let stream = harness.open().await;
    let watches = ClusterWatches::new();
    let mut triggers = watches.subscribe();
    watches.follow(&key(), alone("pod-1", &harness));
    stream.send(Ok(snapshot(vec![]))).await.unwrap();
    triggers.recv().await.unwrap();
    watches.follow(&key(), alone("pod-1", &harness));
    assert!(watches.view(&key()).unwrap().snapshot.is_some());
    watches.follow(&key(), alone("pod-2", &harness));
    assert!(watches.view(&key()).unwrap().snapshot.is_none());
    watches.stop(&key());
    assert!(watches.view(&key()).is_none());
}

#[tokio::test]
async fn a_standby_says_where_the_leader_is_and_the_stream_goes_there() {
    let (standby, leading) = (job_manager().await, job_manager().await);
    standby.stand_by_for(&leading, 7).await;
    let stream = leading.open().await;
    let watches = ClusterWatches::new();
    let mut triggers = watches.subscribe();
    watches.follow(&key(), elected(&[("a", &standby), ("b", &leading)]));
    stream.send(Ok(led(7, "RUNNING"))).await.unwrap();
    triggers.recv().await.unwrap();
    assert_eq!(leader(&watches), ("b".to_owned(), 7));
    assert_eq!(watches.view(&key()).unwrap().address, leading.address);
}

#[tokio::test]
async fn the_next_leader_is_followed_and_what_the_one_before_said_stays_until_it_speaks() {
    let (first, second) = (job_manager().await, job_manager().await);
    let stream = first.open().await;
    let watches = ClusterWatches::new();
    let mut triggers = watches.subscribe();
    watches.follow(&key(), elected(&[("a", &first)]));
    stream.send(Ok(led(7, "RUNNING"))).await.unwrap();
    triggers.recv().await.unwrap();
    // A pod more changes nothing for a stream that is open.
    watches.follow(&key(), elected(&[("a", &first), ("b", &second)]));
    assert!(watches.view(&key()).unwrap().connected);

    stream.send(Err(Status::unavailable("killed"))).await.unwrap();
    triggers.recv().await.unwrap();
    let view = watches.view(&key()).unwrap();
    assert!(!view.connected && view.snapshot.is_some());
    let stream = second.open().await;
    stream.send(Ok(led(8, "RECONCILING"))).await.unwrap();
    triggers.recv().await.unwrap();
    assert_eq!(leader(&watches), ("b".to_owned(), 8));
    assert_eq!(states(&watches), ["RECONCILING"]);
}

#[tokio::test]
async fn a_leader_of_the_past_is_not_believed() {
    let (past, present) = (job_manager().await, job_manager().await);
    let stream = present.open().await;
    let watches = ClusterWatches::new();
    let mut triggers = watches.subscribe();
    watches.follow(&key(), elected(&[("b", &present), ("a", &past)]));
    stream.send(Ok(led(8, "RUNNING"))).await.unwrap();
    triggers.recv().await.unwrap();
    stream.send(Err(Status::unavailable("cut off"))).await.unwrap();
    triggers.recv().await.unwrap();
    let zombie = past.open().await;
    zombie.send(Ok(led(7, "FAILED"))).await.unwrap();
    let stream = present.open().await;
    stream.send(Ok(led(8, "RUNNING"))).await.unwrap();
    triggers.recv().await.unwrap();
    assert_eq!(past.opened.load(Ordering::SeqCst), 1, "it was asked");
    assert_eq!(leader(&watches), ("b".to_owned(), 8));
    assert_eq!(states(&watches), ["RUNNING"]);
}

#[test]
fn only_a_standbys_refusal_names_a_leader() {
    let refusal = Status::failed_precondition("standby; the leader is [fd00::1]:6123 (epoch 3)");
    assert_eq!(named_leader(&refusal).as_deref(), Some("http://[fd00::1]:6123"));
    let nobody = Status::failed_precondition("standby; no leader is elected yet");
    assert_eq!(named_leader(&nobody), None);
}

#[tokio::test]
async fn jobs_are_submitted_and_cancelled_by_grpc() {
    let harness = job_manager().await;
    let request = SubmitJobRequest {
        operation_id: "op".into(),
        ..SubmitJobRequest::default()
    };
    let answer = GrpcJobClient.submit(&harness.address, request).await.unwrap();
    assert_eq!(
        answer.result,
        Some(submit_job_response::Result::JobId("op".into()))
    );
    let error = GrpcJobClient
        .cancel(&harness.address, CancelJobRequest::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
    let request = TriggerSavepointRequest {
        operation_id: "stop".into(),
        ..TriggerSavepointRequest::default()
    };
    let answer = GrpcJobClient
        .trigger_savepoint(&harness.address, request)
        .await
        .unwrap();
    assert_eq!(answer.failure.unwrap().message, "stop");
    let retired = GrpcJobClient.retire(&harness.address).await;
    assert_eq!(
        retired,
        Ok(RetireResponse::default()),
        "there is nothing to wait for"
    );
}

#[tokio::test]
async fn a_job_manager_that_is_not_there_is_an_error_that_names_the_address() {
    let error = connect("http://127.0.0.1:1").await.unwrap_err();
    assert!(error.contains("127.0.0.1:1"), "{error}");
}
