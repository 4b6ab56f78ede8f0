//! Contests for one Lease, against an API server that keeps it and refuses writes to an old version.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock;

use super::*;

/// The one Lease, and its version.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<(Option<Value>, u64)>>);

impl Server {
    fn holding(lease: Value) -> Self {
        let server = Self::default();
        server.keep(lease);
        server
    }

    fn keep(&self, mut lease: Value) -> Value {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        lease["metadata"]["resourceVersion"] = state.1.to_string().into();
        state.0 = Some(lease.clone());
        lease
    }

    fn lease(&self) -> Value {
        self.0.lock().unwrap().0.clone().unwrap()
    }

    fn answer(&self, method: &Method, body: Value) -> (StatusCode, Value) {
        let kept = self.0.lock().unwrap().0.clone();
        let error = |code: StatusCode, reason: &str| {
            let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": reason, "reason": reason, "code": code.as_u16()});
            (code, body)
        };
        match (method, kept) {
            (&Method::GET, Some(kept)) => (StatusCode::OK, kept),
            (&Method::GET | &Method::PUT, None) => error(StatusCode::NOT_FOUND, "NotFound"),
            (&Method::POST, Some(_)) => error(StatusCode::CONFLICT, "AlreadyExists"),
            (&Method::PUT, Some(kept))
                if kept["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] =>
            {
                error(StatusCode::CONFLICT, "Conflict")
            }
            _ => (StatusCode::OK, self.keep(body)),
        }
    }

    fn client(&self) -> Client {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let server = self.clone();
        tokio::spawn(async move {
            while let Some((request, answer)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let (code, body) = server.answer(&parts.method, body);
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                answer.send_response(Response::builder().status(code).body(body).unwrap());
            }
        });
        Client::new(service, "default")
    }

    fn lock(&self, identity: &str) -> LeaseLock {
        let claim = Claim {
            name: "contested".into(),
            identity: identity.into(),
            address: Some(format!("{identity}:6123")),
            duration: Duration::from_secs(15),
        };
        LeaseLock::new(Api::namespaced(self.client(), "default"), claim)
    }
}

/// As the operator makes it for a JobManager.
fn unclaimed() -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "contested", "namespace": "default"}})
}

#[tokio::test]
async fn an_absent_lease_is_created_and_an_unclaimed_one_is_taken() {
    for server in [Server::default(), Server::holding(unclaimed())] {
        let mut lock = server.lock("a");
        let seen = lock.look().await.unwrap();
        assert_eq!(seen.holder(), None);
        assert!(lock.take(seen).await.unwrap());
        let lease = server.lease();
        assert_eq!(lease["spec"]["holderIdentity"], "a");
        assert_eq!(lease["metadata"]["annotations"][ANNOTATION_ADDRESS], "a:6123");
        let seen = server.lock("b").look().await.unwrap();
        assert_eq!((seen.holder(), seen.address()), (Some("a"), Some("a:6123")));
    }
}

#[tokio::test]
async fn of_two_that_saw_the_same_lease_one_wins() {
    for server in [Server::default(), Server::holding(unclaimed())] {
        let (mut a, mut b) = (server.lock("a"), server.lock("b"));
        let (seen_by_a, seen_by_b) = (a.look().await.unwrap(), b.look().await.unwrap());
        assert!(b.take(seen_by_b).await.unwrap());
        assert!(!a.take(seen_by_a).await.unwrap());
        assert_eq!(server.lease()["spec"]["holderIdentity"], "b");
    }
}

#[tokio::test]
async fn who_renews_stays_and_a_successor_is_counted() {
    let server = Server::holding(unclaimed());
    let (mut a, mut b) = (server.lock("a"), server.lock("b"));
    for _ in 0..2 {
        let seen = a.look().await.unwrap();
        assert!(a.take(seen).await.unwrap());
    }
    assert_eq!(server.lease()["spec"]["leaseTransitions"], 0);
    let seen = b.look().await.unwrap();
    assert!(b.take(seen).await.unwrap());
    assert_eq!(server.lease()["spec"]["leaseTransitions"], 1);
    assert!(!a.look().await.unwrap().is_mine());
}

#[tokio::test]
async fn what_is_held_is_renewed_without_a_look_until_another_has_it() {
    let server = Server::default();
    let (mut a, mut b) = (server.lock("a"), server.lock("b"));
    assert!(a.held().is_none());
    let seen = a.look().await.unwrap();
    assert!(a.take(seen).await.unwrap());
    let held = a.held().unwrap();
    assert!(held.is_mine());
    assert!(a.take(held).await.unwrap());
    let seen = b.look().await.unwrap();
    assert!(b.take(seen).await.unwrap());
    let held = a.held().unwrap();
    assert!(!a.take(held).await.unwrap());
    assert!(a.held().is_none());
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_last_change_that_was_seen() {
    let server = Server::default();
    let (mut a, mut b) = (server.lock("a"), server.lock("b"));
    let seen = a.look().await.unwrap();
    a.take(seen).await.unwrap();
    assert!(!b.look().await.unwrap().expired());
    tokio::time::advance(Duration::from_secs(14)).await;
    assert!(!b.look().await.unwrap().expired());
    let seen = a.look().await.unwrap();
    a.take(seen).await.unwrap();
    b.look().await.unwrap();
    tokio::time::advance(Duration::from_secs(14)).await;
    assert!(!b.look().await.unwrap().expired());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(b.look().await.unwrap().expired());
}

#[tokio::test]
async fn only_its_holder_releases_it() {
    let server = Server::default();
    let (mut a, mut b) = (server.lock("a"), server.lock("b"));
    let seen = a.look().await.unwrap();
    a.take(seen).await.unwrap();
    b.release().await.unwrap();
    assert_eq!(server.lease()["spec"]["holderIdentity"], "a");
    a.release().await.unwrap();
    assert!(server.lease()["spec"]["holderIdentity"].is_null());
    assert_eq!(b.look().await.unwrap().holder(), None);
}
