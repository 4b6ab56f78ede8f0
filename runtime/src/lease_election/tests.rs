//! Whether a JobManager takes the Lease, against an API server of this process and holders that answer or don't.

use std::sync::Arc;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use thalweg_proto::control::v1::job_manager_server::{JobManager, JobManagerServer};
use thalweg_proto::control::v1::{
    FetchPackageRequest, JobManagerCommand, LeaderResponse, PackageChunk, TaskManagerMessage,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, Streaming};
use tower_test::mock;

use super::*;

/// The one Lease; nothing = the API server is away.
type Kept = Arc<Mutex<Option<Value>>>;

fn lease(holder: Option<&str>, address: &str) -> Kept {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "wc-jobmanager", "namespace": "default", "resourceVersion": "1",
            "annotations": {thalweg_lease::ANNOTATION_ADDRESS: address},
        },
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
    });
    Arc::new(Mutex::new(Some(lease)))
}

fn holder(kept: &Kept) -> String {
    let kept = kept.lock().unwrap();
    let holder = kept.as_ref().unwrap()["spec"]["holderIdentity"].as_str();
    holder.unwrap_or_default().to_owned()
}

fn stand(kept: &Kept) -> Stand {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let kept = kept.clone();
    tokio::spawn(async move {
        while let Some((request, answer)) = handle.next_request().await {
            let is_write = request.method() == http::Method::PUT;
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let mut kept = kept.lock().unwrap();
            if kept.is_some() && is_write {
                *kept = Some(serde_json::from_slice(&bytes).unwrap());
            }
            let (code, body) = match kept.as_ref() {
                Some(lease) => (200, lease.clone()),
                None => (
                    503,
                    json!({"kind": "Status", "status": "Failure", "code": 503, "message": "away", "reason": ""}),
                ),
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            answer.send_response(Response::builder().status(code).body(body).unwrap());
        }
    });
    let claim = Claim {
        name: "wc-jobmanager".into(),
        identity: "me".into(),
        address: Some("10.0.0.2:6123".into()),
        duration: DURATION,
    };
    let api = Api::namespaced(Client::new(service, "default"), "default");
    Stand {
        lock: LeaseLock::new(api, claim),
        held: false,
        overdue: false,
        answered: Instant::now(),
    }
}

/// What comes of a Lease that was silent for so long.
async fn after(kept: &Kept, silence: Duration) -> Option<ElectionEvent> {
    let mut stand = stand(kept);
    let mut seen = stand.lock.look().await.unwrap();
    seen.unchanged = silence;
    stand.judge(seen).await.unwrap()
}

/// A JobManager that says whether it leads.
struct Holder(bool);

#[tonic::async_trait]
impl JobManager for Holder {
    type ConnectTaskManagerStream = tokio_stream::Empty<Result<JobManagerCommand, Status>>;
    type FetchPackageStream = tokio_stream::Empty<Result<PackageChunk, Status>>;

    async fn connect_task_manager(
        &self,
        _: tonic::Request<Streaming<TaskManagerMessage>>,
    ) -> Result<tonic::Response<Self::ConnectTaskManagerStream>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn fetch_package(
        &self,
        _: tonic::Request<FetchPackageRequest>,
    ) -> Result<tonic::Response<Self::FetchPackageStream>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn leader(
        &self,
        _: tonic::Request<LeaderRequest>,
    ) -> Result<tonic::Response<LeaderResponse>, Status> {
        Ok(tonic::Response::new(LeaderResponse {
            is_leader: self.0,
            ..LeaderResponse::default()
        }))
    }
}

async fn holder_that(leads: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tonic::transport::Server::builder().add_service(JobManagerServer::new(Holder(leads)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// Nothing listens there: the port is let go again.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn leader(address: &str) -> Option<ElectionEvent> {
    Some(ElectionEvent::Leader {
        address: address.to_owned(),
    })
}

#[tokio::test]
async fn a_free_lease_and_ones_own_are_taken() {
    for before in [None, Some("me")] {
        let kept = lease(before, "");
        assert_eq!(after(&kept, Duration::ZERO).await, Some(ElectionEvent::Granted));
        assert_eq!(holder(&kept), "me");
    }
}

#[tokio::test]
async fn a_holder_that_renews_is_not_asked() {
    let address = nobody();
    let kept = lease(Some("other"), &address);
    assert_eq!(after(&kept, RENEW_EVERY).await, leader(&address));
    assert_eq!(holder(&kept), "other");
}

#[tokio::test]
async fn a_holder_that_missed_a_renewal_and_does_not_answer_is_followed() {
    let kept = lease(Some("other"), &nobody());
    assert_eq!(after(&kept, MISSED).await, Some(ElectionEvent::Granted));
    assert_eq!(holder(&kept), "me");
}

#[tokio::test]
async fn a_leader_that_answers_stays_however_long_its_lease_has_run_out() {
    let address = holder_that(true).await;
    let kept = lease(Some("other"), &address);
    assert_eq!(after(&kept, DURATION * 10).await, leader(&address));
    assert_eq!(holder(&kept), "other");
}

#[tokio::test]
async fn a_holder_that_does_not_lead_has_the_leases_duration() {
    let address = holder_that(false).await;
    let kept = lease(Some("other"), &address);
    assert_eq!(after(&kept, MISSED).await, leader(&address));
    assert_eq!(after(&kept, DURATION).await, Some(ElectionEvent::Granted));
}

#[tokio::test]
async fn a_standby_without_an_api_server_says_nothing_and_a_leader_has_its_deadline() {
    let kept: Kept = Arc::default();
    let mut standby = stand(&kept);
    assert_eq!(standby.step().await, None);
    let mut leading = stand(&kept);
    leading.held = true;
    assert_eq!(leading.step().await, None);
    leading.answered = Instant::now() - RENEW_DEADLINE;
    assert_eq!(leading.step().await, Some(ElectionEvent::Revoked));
}

#[tokio::test]
async fn a_campaign_ends_with_the_lease_released() {
    let kept = lease(None, "");
    let (events, mut advice) = mpsc::channel(EVENTS);
    let (stop, stopped) = watch::channel(false);
    let campaign = tokio::spawn(stand(&kept).run(events, stopped));
    assert_eq!(advice.recv().await, Some(ElectionEvent::Granted));
    assert_eq!(holder(&kept), "me");
    stop.send_replace(true);
    campaign.await.unwrap();
    assert_eq!(holder(&kept), "");
}
