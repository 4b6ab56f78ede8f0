//! Against a JobManager that answers by a list.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};

use super::*;

type Script = Arc<Mutex<Vec<(String, StatusCode, Value)>>>;

async fn answer(
    State(script): State<Script>,
    method: Method,
    uri: Uri,
    body: String,
) -> (StatusCode, Json<Value>) {
    let (expected, status, value) = script.lock().unwrap().remove(0);
    let body: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
    assert_eq!(expected, format!("{method} {} {body}", uri.path()));
    (status, Json(value))
}

/// Serves these answers, once each; the client and its address.
async fn serving(script: Vec<(&str, u16, Value)>) -> (Served, Script) {
    let script: Vec<_> = script
        .into_iter()
        .map(|(request, status, value)| (request.to_owned(), StatusCode::from_u16(status).unwrap(), value))
        .collect();
    let script = Arc::new(Mutex::new(script));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(answer).with_state(script.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (Served { address }, script)
}

struct Served {
    address: std::net::SocketAddr,
}

impl Served {
    async fn get(&self, path: &str) -> Answer {
        let client = RestSnapshotClient::new().unwrap();
        let url = format!("http://{}{path}", self.address);
        Answer::of(client.client.get(url)).await.unwrap()
    }
}

fn call(snapshot_type: SnapshotType) -> SnapshotCall {
    SnapshotCall {
        snapshot_type,
        job_id: "j".into(),
        trigger_id: "t".into(),
        directory: Some("s3://b/sp".into()),
        format_type: "CANONICAL",
    }
}

#[test]
fn rest_is_on_its_own_port_of_the_same_pod() {
    assert_eq!(
        rest_url("http://10.0.0.1:6123", "/jobs"),
        "http://10.0.0.1:8081/jobs"
    );
    assert_eq!(
        rest_url("http://[fd00::1]:6123", "/jobs"),
        "http://[fd00::1]:8081/jobs"
    );
}

#[test]
fn a_savepoint_is_asked_for_in_flinks_words() {
    let call = call(SnapshotType::Savepoint);
    assert_eq!(collection(&call), "/jobs/j/savepoints");
    assert_eq!(
        body_of(&call),
        json!({"cancel-job": false, "formatType": "CANONICAL", "triggerId": "t", "target-directory": "s3://b/sp"})
    );
}

#[test]
fn a_checkpoint_is_asked_for_in_flinks_words() {
    let call = call(SnapshotType::Checkpoint);
    assert_eq!(collection(&call), "/jobs/j/checkpoints");
    assert_eq!(body_of(&call), json!({"triggerId": "t"}));
}

#[test]
fn an_operations_end_is_read_in_both_of_flinks_spellings() {
    assert_eq!(
        progress_of(&json!({"status": {"id": "IN_PROGRESS"}, "operation": null})),
        Progress::UnderWay
    );
    assert_eq!(
        progress_of(&json!({"status": {"id": "COMPLETED"}, "operation": {"location": "s3://b/sp/1"}})),
        Progress::Completed(Some("s3://b/sp/1".into()))
    );
    for field in ["failure-cause", "failureCause"] {
        let operation = json!({field: {"class": "X", "stack-trace": "the disk is full\n"}});
        assert_eq!(
            progress_of(&json!({"status": {"id": "COMPLETED"}, "operation": operation})),
            Progress::Failed("the disk is full".into())
        );
    }
}

#[test]
fn a_refusal_is_told_in_the_job_managers_words_and_overload_is_no_answer() {
    let errors = br#"{"errors": ["no folder", "set one"]}"#;
    assert_eq!(
        Answer::read(StatusCode::BAD_REQUEST, errors),
        Ok(Answer::Refused("no folder; set one".into()))
    );
    assert_eq!(Answer::read(StatusCode::NOT_FOUND, b"{}"), Ok(Answer::NotFound));
    let overloaded = Answer::read(StatusCode::SERVICE_UNAVAILABLE, errors);
    assert_eq!(overloaded, Err(NoAnswer("no folder; set one".into())));
    assert!(matches!(
        Answer::read(StatusCode::BAD_GATEWAY, b"<html>"),
        Ok(Answer::Refused(message)) if message.contains("502")
    ));
}

#[tokio::test]
async fn an_answer_is_read_from_the_wire() {
    let (served, left) = serving(vec![
        (
            "GET /jobs/j/savepoints/t null",
            200,
            json!({"status": {"id": "IN_PROGRESS"}}),
        ),
        ("GET /gone null", 404, json!({"errors": ["no"]})),
    ])
    .await;
    let found = served.get("/jobs/j/savepoints/t").await;
    assert_eq!(found, Answer::Yes(json!({"status": {"id": "IN_PROGRESS"}})));
    assert_eq!(served.get("/gone").await, Answer::NotFound);
    assert!(left.lock().unwrap().is_empty());
}
