//! Which replica leads when; the contest for a Lease itself is tested where it is (`thalweg-lease`).

#![allow(clippy::needless_pass_by_value)] // `json!(...)` reads better at the call without `&`

use serde_json::{Value, json};

use super::*;
use crate::testing::{NOT_FOUND, Reply, Script};

const LEASE: &str = "/leases/thalweg-operator";

fn lease(holder: Value, version: &str) -> Reply {
    Reply::Json(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "thalweg-operator", "namespace": "default", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3},
    }))
}

fn election(client: kube::Client) -> Election {
    Election::new(
        Api::namespaced(client, "default"),
        "thalweg-operator".into(),
        "me".into(),
    )
}

#[test]
fn a_leader_stops_before_its_lease_can_be_taken() {
    assert!(RENEW_DEADLINE + LOOK_EVERY < DURATION);
}

#[tokio::test]
async fn an_absent_lease_and_a_released_one_are_taken() {
    for (found, method, path) in [
        (NOT_FOUND, "POST", "/leases"),
        (lease(json!(null), "7"), "PUT", LEASE),
    ] {
        let script = Script::new(&json!({}))
            .expect("GET", LEASE, found)
            .expect(method, path, Reply::Echo);
        let (held, played) = script
            .play(async |client| election(client).try_acquire().await.unwrap())
            .await;
        assert!(held);
        assert_eq!(played.body(method, path)["spec"]["holderIdentity"], "me");
    }
}

#[tokio::test]
async fn who_loses_the_race_waits() {
    let script = Script::new(&json!({})).expect("GET", LEASE, NOT_FOUND).expect(
        "POST",
        "/leases",
        Reply::Error(409, "AlreadyExists", "there"),
    );
    let (held, _) = script
        .play(async |client| election(client).try_acquire().await.unwrap())
        .await;
    assert!(!held);
}

#[tokio::test(start_paused = true)]
async fn a_held_lease_is_left_alone_until_its_holder_was_silent_for_its_duration() {
    let script = Script::new(&json!({}))
        .expect("GET", LEASE, lease(json!("other"), "7"))
        .expect("GET", LEASE, lease(json!("other"), "7"))
        .expect("PUT", LEASE, Reply::Echo);
    let (held, _) = script
        .play(async |client| {
            let mut election = election(client);
            let first = election.try_acquire().await.unwrap();
            tokio::time::advance(DURATION).await;
            (first, election.try_acquire().await.unwrap())
        })
        .await;
    assert_eq!(held, (false, true));
}

#[tokio::test]
async fn a_leader_whose_lease_another_holds_has_lost_it() {
    let script = Script::new(&json!({})).expect("GET", LEASE, lease(json!("other"), "8"));
    let (outcome, _) = script
        .play(async |client| election(client).renew().await.unwrap())
        .await;
    assert_eq!(outcome, Some(Lost::TakenBy("other".into())));
}
