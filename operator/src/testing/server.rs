//! An API server that keeps what is written to it, until the operator "is killed": from one write on nothing answers any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock;

use super::{Reply, merge, respond};

/// When the operator ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kill {
    Never,
    /// Before this write (0 is the first) gets to the server.
    Before(usize),
    /// Behind it: it is kept, and its answer lost.
    Behind(usize),
}

#[derive(Debug, Default)]
struct State {
    /// By path, as `/apis/../namespaces/default/kind/name`.
    objects: BTreeMap<String, Value>,
    created: Vec<String>,
}

/// What is kept; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

impl Server {
    /// Puts an object there; its plural is that of its path.
    pub(crate) fn put(&self, plural: &str, object: &impl serde::Serialize) {
        let object = serde_json::to_value(object).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let path = format!("/{plural}/{name}");
        self.0.lock().unwrap().objects.insert(path, object);
    }

    pub(crate) fn get<T: serde::de::DeserializeOwned>(&self, plural: &str, name: &str) -> T {
        let state = self.0.lock().unwrap();
        serde_json::from_value(state.objects[&format!("/{plural}/{name}")].clone()).unwrap()
    }

    /// The paths of everything that was created by POST.
    pub(crate) fn created(&self) -> Vec<String> {
        self.0.lock().unwrap().created.clone()
    }

    /// Runs `work` against it; how many writes were made.
    pub(crate) async fn run<T>(&self, kill: Kill, work: impl AsyncFnOnce(Client) -> T) -> (T, usize) {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let server = self.clone();
        let serving = tokio::spawn(async move {
            let mut writes = 0;
            while let Some((request, answer)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await.unwrap();
                let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let is_event = parts.uri.path().contains("/events");
                let is_write = parts.method != Method::GET && !is_event;
                let path = short(parts.uri.path());
                let dead = match kill {
                    Kill::Never => false,
                    Kill::Before(at) => writes >= at && is_write || writes > at,
                    Kill::Behind(at) => writes > at,
                };
                let reply = if dead {
                    Reply::Error(500, "InternalError", "the operator is gone")
                } else if is_event {
                    Reply::Echo
                } else {
                    server.answer(&parts.method, &path, &body)
                };
                let lost = is_write && kill == Kill::Behind(writes);
                writes += usize::from(is_write);
                let reply = if lost {
                    Reply::Error(500, "InternalError", "the operator is gone")
                } else {
                    reply
                };
                answer.send_response(respond(reply, &Value::Null, body));
            }
            writes
        });
        let outcome = work(Client::new(service, "default")).await;
        (outcome, serving.await.unwrap())
    }

    fn answer(&self, method: &Method, path: &str, body: &Value) -> Reply {
        let mut state = self.0.lock().unwrap();
        let (object, is_status) = match path.strip_suffix("/status") {
            Some(object) => (object.to_owned(), true),
            None => (path.to_owned(), false),
        };
        if *method == Method::POST {
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            let object = format!("{path}/{name}");
            if state.objects.contains_key(&object) {
                return Reply::Error(409, "AlreadyExists", "there already");
            }
            state.objects.insert(object.clone(), body.clone());
            state.created.push(object);
            return Reply::Echo;
        }
        if *method == Method::GET && object.matches('/').count() == 1 {
            let below = format!("{object}/");
            let inside = state.objects.iter().filter(|(path, _)| path.starts_with(&below));
            let items: Vec<&Value> = inside.map(|(_, object)| object).collect();
            return Reply::Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}));
        }
        if *method == Method::PATCH && !is_status && !state.objects.contains_key(&object) {
            state.objects.insert(object.clone(), body.clone());
        }
        let Some(found) = state.objects.get_mut(&object) else {
            return Reply::Error(404, "NotFound", "not found");
        };
        if *method == Method::PATCH && is_status {
            found["status"] = body["status"].clone();
        } else if *method == Method::PATCH {
            merge(found, body.clone());
        }
        let found = found.clone();
        if *method == Method::DELETE {
            state.objects.remove(&object);
            return Reply::Json(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
        }
        Reply::Json(found)
    }
}

/// `/plural`, `/plural/name` or `/plural/name/status` of a path in namespace default.
fn short(path: &str) -> String {
    match path.split_once("/namespaces/default") {
        Some((_, rest)) => rest.to_owned(),
        None => path.to_owned(),
    }
}
