//! Who leads when.

#![allow(clippy::needless_pass_by_value)] // `json!(...)` reads better at the call without `&`

use serde_json::{Value, json};

use super::*;
use crate::testing::{NOT_FOUND, Reply, Script};

fn lease(holder: Value, version: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "thalweg-operator", "namespace": "default", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3},
    })
}

fn parsed(holder: Value) -> Lease {
    serde_json::from_value(lease(holder, "1")).unwrap()
}

fn lock(client: kube::Client) -> LeaseLock {
    LeaseLock::new(
        Api::namespaced(client, "default"),
        "thalweg-operator".into(),
        "me".into(),
    )
}

#[test]
fn the_decision_follows_from_holder_and_silence() {
    let seconds = Duration::from_secs;
    assert_eq!(decide(None, "me", seconds(0)), Decision::Create);
    assert_eq!(
        decide(Some(&parsed(json!(null))), "me", seconds(0)),
        Decision::Take
    );
    assert_eq!(
        decide(Some(&parsed(json!("me"))), "me", seconds(0)),
        Decision::Renew
    );
    assert_eq!(
        decide(Some(&parsed(json!("other"))), "me", seconds(14)),
        Decision::Wait
    );
    assert_eq!(
        decide(Some(&parsed(json!("other"))), "me", seconds(15)),
        Decision::Take
    );
}

#[test]
fn a_leader_stops_before_its_lease_can_be_taken() {
    assert!(RENEW_DEADLINE + LOOK_EVERY < DURATION);
}

#[tokio::test]
async fn an_absent_lease_is_created() {
    let script = Script::new(&json!({}))
        .expect("GET", "/leases/thalweg-operator", NOT_FOUND)
        .expect("POST", "/leases", Reply::Echo);
    let (held, played) = script
        .play(async |client| lock(client).try_acquire().await.unwrap())
        .await;
    assert!(held);
    assert_eq!(played.body("POST", "/leases")["spec"]["holderIdentity"], "me");
}

#[tokio::test]
async fn a_released_lease_is_taken_conditionally_on_its_version() {
    let script = Script::new(&json!({}))
        .expect(
            "GET",
            "/leases/thalweg-operator",
            Reply::Json(lease(json!(null), "7")),
        )
        .expect("PUT", "/leases/thalweg-operator", Reply::Echo);
    let (held, played) = script
        .play(async |client| lock(client).try_acquire().await.unwrap())
        .await;
    assert!(held);
    let body = played.body("PUT", "/thalweg-operator");
    assert_eq!(
        (
            &body["metadata"]["resourceVersion"],
            &body["spec"]["leaseTransitions"]
        ),
        (&json!("7"), &json!(4))
    );
}

#[tokio::test]
async fn who_loses_the_race_waits() {
    for reply in [
        Reply::Error(409, "Conflict", "changed"),
        Reply::Error(409, "AlreadyExists", "there"),
    ] {
        let script = Script::new(&json!({}))
            .expect("GET", "/leases/thalweg-operator", NOT_FOUND)
            .expect("POST", "/leases", reply);
        let (held, _) = script
            .play(async |client| lock(client).try_acquire().await.unwrap())
            .await;
        assert!(!held);
    }
}

#[tokio::test]
async fn a_held_lease_is_left_alone() {
    let script = Script::new(&json!({})).expect(
        "GET",
        "/leases/thalweg-operator",
        Reply::Json(lease(json!("other"), "7")),
    );
    let (held, _) = script
        .play(async |client| lock(client).try_acquire().await.unwrap())
        .await;
    assert!(!held);
}

#[tokio::test]
async fn a_leader_whose_lease_another_holds_has_lost_it() {
    let script = Script::new(&json!({})).expect(
        "GET",
        "/leases/thalweg-operator",
        Reply::Json(lease(json!("other"), "8")),
    );
    let (outcome, _) = script
        .play(async |client| lock(client).renew().await.unwrap())
        .await;
    assert_eq!(outcome, Some(Lost::TakenBy("other".into())));
}

#[tokio::test]
async fn a_lease_is_released_only_by_its_holder() {
    let script = Script::new(&json!({})).expect(
        "GET",
        "/leases/thalweg-operator",
        Reply::Json(lease(json!("other"), "8")),
    );
    script
        .play(async |client| lock(client).release().await.unwrap())
        .await;
    let script = Script::new(&json!({}))
        .expect(
            "GET",
            "/leases/thalweg-operator",
            Reply::Json(lease(json!("me"), "8")),
        )
        .expect("PUT", "/leases/thalweg-operator", Reply::Echo);
    let ((), played) = script
        .play(async |client| lock(client).release().await.unwrap())
        .await;
    assert!(played.body("PUT", "/thalweg-operator")["spec"]["holderIdentity"].is_null());
}
