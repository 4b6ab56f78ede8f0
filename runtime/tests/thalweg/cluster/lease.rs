//! JobManagers of Kubernetes as processes, with an API server that keeps their one Lease.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::high_availability::Ports;
use super::{Cluster, Process};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases/wc-jobmanager";

#[derive(Clone)]
struct Api(Arc<Mutex<Kept>>);

struct Kept {
    lease: Value,
    version: u64,
    /// Who held it, one after another; "" = nobody.
    holders: Vec<String>,
}

impl Api {
    /// Where it serves.
    async fn start() -> (Self, u16) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "wc-jobmanager", "namespace": "default", "resourceVersion": "0"},
        });
        let api = Self(Arc::new(Mutex::new(Kept {
            lease,
            version: 0,
            holders: Vec::new(),
        })));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let routes = Router::new()
            .route(PATH, get(read).put(replace))
            .with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (api, port)
    }

    fn holders(&self) -> Vec<String> {
        self.0.lock().unwrap().holders.clone()
    }

    async fn until_held_by(&self, holder: &str) {
        let start = Instant::now();
        while self.holders().last().is_none_or(|last| last != holder) {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "waited for {holder}: {:?}",
                self.holders()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn read(State(api): State<Api>) -> Json<Value> {
    Json(api.0.lock().unwrap().lease.clone())
}

/// Refuses what was made from an older version.
async fn replace(State(api): State<Api>, Json(mut lease): Json<Value>) -> (StatusCode, Json<Value>) {
    let mut kept = api.0.lock().unwrap();
    if lease["metadata"]["resourceVersion"] != kept.lease["metadata"]["resourceVersion"] {
        let conflict = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "another was quicker", "reason": "Conflict", "code": 409,
        });
        return (StatusCode::CONFLICT, Json(conflict));
    }
    kept.version += 1;
    lease["metadata"]["resourceVersion"] = kept.version.to_string().into();
    let holder = lease["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if kept.holders.last() != Some(&holder) {
        kept.holders.push(holder);
    }
    kept.lease = lease.clone();
    (StatusCode::OK, Json(lease))
}

/// One pod's process.
fn job_manager(pod: &str, ports: Ports, folder: &Path) -> Process {
    let storage = format!(
        "high-availability.storageDir=file://{}",
        folder.join("high-availability").display()
    );
    let child = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(["jobmanager", "--host", "127.0.0.1"])
        .args(["-D", "high-availability.type=kubernetes", "-D", &storage])
        .args(["-D", &format!("jobmanager.rpc.port={}", ports.rpc)])
        .args(["-D", &format!("rest.port={}", ports.rest_port())])
        .args(["-D", "jobmanager.bind-host=127.0.0.1"])
        .args(["-D", "metrics.reporter.prom.port=0"])
        .env_remove("THALWEG_CONF_DIR")
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .env("THALWEG_LEASE_NAME", "wc-jobmanager")
        .env("POD_NAME", pod)
        .env("POD_NAMESPACE", "default")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_end_gives_its_lease_up_and_the_standby_leads() {
    let folder = tempfile::tempdir().unwrap();
    let (api, port) = Api::start().await;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "users": [{"name": "here", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here", "namespace": "default"}}],
    });
    std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    let ports = [Ports::free(), Ports::free()];
    let mut first = job_manager("wc-0", ports[0], folder.path());
    api.until_held_by("wc-0").await;
    let mut cluster = Cluster {
        rest: ports[0].rest(),
        processes: Vec::new(),
        rpc_port: ports[0].rpc,
    };
    let leads = |overview: &Value| overview["slots-total"] == 0;
    cluster.until("a leader", "/overview", leads).await;
    let second = job_manager("wc-1", ports[1], folder.path());
    cluster.rest = ports[1].rest();
    cluster
        .until("the standby to hand requests on", "/overview", leads)
        .await;

    kill(
        Pid::from_raw(i32::try_from(first.0.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    let ended = tokio::task::block_in_place(|| first.0.wait()).unwrap();
    assert!(ended.success(), "{ended}");
    // Its own last write, and not the standby's patience.
    assert_eq!(api.holders()[..2], ["wc-0", ""], "{:?}", api.holders());
    api.until_held_by("wc-1").await;
    cluster.until("the standby to lead", "/overview", leads).await;
    drop(second);
}
