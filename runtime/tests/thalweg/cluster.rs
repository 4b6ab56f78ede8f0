//! JobManager and TaskManagers as processes of their own, driven over REST.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::package::package;

mod functions;
mod high_availability;
mod lease;
mod rescaling;
mod samples;
mod sql;
mod takeover;

/// Ends when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Killing what has ended already is an error that says nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Cluster {
    rest: String,
    processes: Vec<Process>,
    rpc_port: u16,
}

/// A port on loopback for a process that a test starts later. Below those that the system gives to connections, and each once: nothing else
/// takes it meanwhile.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    let own = (std::process::id() % u32::from(COUNT)) as u16;
    loop {
        let place = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (own + place % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Cluster {
    fn start(task_managers: usize) -> Self {
        let (rest_port, rpc_port) = (free_port(), free_port());
        let mut cluster = Self {
            rest: format!("http://127.0.0.1:{rest_port}"),
            processes: Vec::new(),
            rpc_port,
        };
        let rest = format!("rest.port={rest_port}");
        cluster.process(&["jobmanager", "-D", &rest, "-D", "jobmanager.bind-host=127.0.0.1"]);
        for index in 0..task_managers {
            let id = format!("tm-{index}");
            cluster.process(&["taskmanager", "--resource-id", &id, "--host", "127.0.0.1"]);
        }
        cluster
    }

    fn process(&mut self, arguments: &[&str]) {
        self.process_of("127.0.0.1", self.rpc_port, arguments);
    }

    /// With other settings of `jobmanager.rpc.*` than the cluster's.
    fn process_of(&mut self, rpc_address: &str, rpc_port: u16, arguments: &[&str]) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args(arguments)
            .args(["-D", &format!("jobmanager.rpc.port={rpc_port}")])
            .args(["-D", &format!("jobmanager.rpc.address={rpc_address}")])
            .args(["-D", "metrics.reporter.prom.port=0"])
            .args([
                "-D",
                "taskmanager.numberOfTaskSlots=2",
                "-D",
                "taskmanager.memory.process.size=512m",
            ])
            .env_remove("THALWEG_CONF_DIR")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Shown by the test's harness when it fails.
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            log.lines()
                .map_while(Result::ok)
                .for_each(|line| println!("{line}"));
        });
        self.processes.push(Process(child));
    }

    async fn get(&self, path: &str) -> Value {
        let response = reqwest::get(format!("{}{path}", self.rest)).await.unwrap();
        response.json().await.unwrap()
    }

    /// Asks until the answer is as wanted.
    async fn until(&self, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let answer = match reqwest::get(format!("{}{path}", self.rest)).await {
                Ok(response) => response.json().await.unwrap_or_default(),
                Err(_) => Value::Null,
            };
            if wanted(&answer) {
                return answer;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "waited for {what}: {answer}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs a package, and returns the job's id.
    async fn run(&self, package: &std::path::Path, request: Value) -> String {
        let archive = package.with_extension("tar.gz");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(package)
            .arg("-czf")
            .arg(&archive)
            .arg(".")
            .status()
            .unwrap();
        assert!(packed.success());
        self.submit(std::fs::read(&archive).unwrap(), "job.tar.gz", request)
            .await
            .unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// Uploads a package or a script under that name and runs it: the job's id, or the answer that there is none.
    async fn submit(&self, file: Vec<u8>, name: &'static str, request: Value) -> Result<String, Value> {
        let part = reqwest::multipart::Part::bytes(file).file_name(name);
        let form = reqwest::multipart::Form::new().part("jarfile", part);
        let client = reqwest::Client::new();
        let upload = client.post(format!("{}/jars/upload", self.rest)).multipart(form);
        let uploaded: Value = upload.send().await.unwrap().json().await.unwrap();
        let id = match uploaded["filename"].as_str() {
            Some(path) => path.rsplit('/').next().unwrap().to_owned(),
            None => return Err(uploaded),
        };
        let run = client
            .post(format!("{}/v1/jars/{id}/run", self.rest))
            .json(&request);
        let started: Value = run.send().await.unwrap().json().await.unwrap();
        match started["jobid"].as_str() {
            Some(job) => Ok(job.to_owned()),
            None => Err(started),
        }
    }

    fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args(arguments)
            .args(["--jobmanager", &self.rest])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

fn state_is(wanted: &'static str) -> impl Fn(&Value) -> bool {
    move |job| job["state"] == wanted
}

#[tokio::test]
async fn a_job_over_two_task_managers_is_listed_canceled_and_gives_its_slots_back() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(2);
    cluster
        .until("four slots", "/overview", |overview| {
            overview["slots-available"] == 4
        })
        .await;
    let package = package("misbehaving", folder.path());
    let job = cluster
        .run(
            &package,
            json!({"programArgsList": ["well-behaved"], "parallelism": 3}),
        )
        .await;
    let path = format!("/jobs/{job}");
    cluster.until("the job to run", &path, state_is("RUNNING")).await;
    assert_eq!(cluster.get("/overview").await["slots-available"], 1);

    let list = cluster.command(&["list"]);
    assert!(list.contains(&job) && list.contains("RUNNING"), "{list}");
    assert_eq!(cluster.command(&["cancel", &job]), format!("cancelling {job}\n"));
    cluster
        .until("the job to be canceled", &path, state_is("CANCELED"))
        .await;
    cluster
        .until("all slots back", "/overview", |overview| {
            overview["slots-available"] == 4
        })
        .await;
}

#[tokio::test]
async fn a_killed_task_manager_restarts_the_job_on_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(1);
    cluster
        .until("two slots", "/overview", |overview| {
            overview["slots-available"] == 2
        })
        .await;
    let package = package("misbehaving", folder.path());
    let strategy =
        json!({"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.delay": "10 ms"});
    let request =
        json!({"programArgsList": ["well-behaved"], "parallelism": 2, "flinkConfiguration": strategy});
    let job = cluster.run(&package, request).await;
    let path = format!("/jobs/{job}");
    cluster.until("the job to run", &path, state_is("RUNNING")).await;

    drop(cluster.processes.pop());
    cluster
        .until("the job to restart", &path, |job| job["state"] != "RUNNING")
        .await;
    cluster.process(&["taskmanager", "--resource-id", "tm-next", "--host", "127.0.0.1"]);
    cluster
        .until("the job to run again", &path, state_is("RUNNING"))
        .await;
    let exceptions = cluster.get(&format!("{path}/exceptions")).await;
    assert!(
        exceptions["exceptionHistory"]["entries"][0]["stacktrace"].is_string(),
        "{exceptions}"
    );
}

/// A job that takes checkpoints, its folder for them, and one for savepoints.
async fn checkpointed(cluster: &Cluster, folder: &std::path::Path, savepoint: Option<&str>) -> String {
    let package = package("misbehaving", folder);
    let request = json!({
        "programArgsList": ["well-behaved"],
        "parallelism": 2,
        "savepointPath": savepoint,
        "flinkConfiguration": {
            "execution.checkpointing.interval": "100 ms",
            "execution.checkpointing.dir": folder.join("checkpoints"),
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.delay": "10 ms",
        },
    });
    cluster.run(&package, request).await
}

fn completed(at_least: u64) -> impl Fn(&Value) -> bool {
    move |statistics| statistics["counts"]["completed"].as_u64().unwrap_or(0) >= at_least
}

#[tokio::test]
async fn a_killed_task_manager_costs_a_restart_from_the_newest_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(1);
    cluster
        .until("two slots", "/overview", |overview| {
            overview["slots-available"] == 2
        })
        .await;
    let job = checkpointed(&cluster, folder.path(), None).await;
    let path = format!("/jobs/{job}/checkpoints");
    let before = cluster.until("two checkpoints", &path, completed(2)).await;
    assert_eq!(before["latest"]["restored"], Value::Null);
    drop(cluster.processes.pop());
    cluster.process(&["taskmanager", "--resource-id", "tm-next", "--host", "127.0.0.1"]);
    let restored = cluster
        .until("a restore", &path, |statistics| {
            statistics["latest"]["restored"]["id"].is_u64()
        })
        .await;
    let (from, newest) = (
        restored["latest"]["restored"]["id"].as_u64().unwrap(),
        before["latest"]["completed"]["id"].as_u64().unwrap(),
    );
    assert!(from >= newest, "restored from {from}, {newest} was there");
    let so_far = restored["counts"]["completed"].as_u64().unwrap();
    cluster
        .until("checkpoints to go on", &path, completed(so_far + 2))
        .await;
}

#[tokio::test]
async fn savepoints_are_taken_looked_into_started_from_and_disposed_of() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(1);
    cluster
        .until("two slots", "/overview", |overview| {
            overview["slots-available"] == 2
        })
        .await;
    let savepoints = folder.path().join("savepoints");
    let savepoints = savepoints.to_str().unwrap();
    let job = checkpointed(&cluster, folder.path(), None).await;
    let statistics = format!("/jobs/{job}/checkpoints");
    cluster.until("a checkpoint", &statistics, completed(1)).await;
    let list = cluster.command(&["checkpoints", &job]);
    assert!(
        list.contains(" completed, ") && list.contains("COMPLETED"),
        "{list}"
    );

    let path = cluster.command(&["savepoint", &job, savepoints]);
    let path = path.trim();
    assert!(
        path.starts_with(&format!("file://{savepoints}/savepoint-")),
        "{path}"
    );
    let inspected = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(["state", "inspect", path])
        .output()
        .unwrap();
    let inspected = String::from_utf8(inspected.stdout).unwrap();
    assert!(
        inspected.contains("numbers") && inspected.contains(&job),
        "{inspected}"
    );

    let stopped = cluster.command(&["stop", &job, "-p", savepoints]);
    let stopped = stopped.trim();
    cluster
        .until("the job to end", &format!("/jobs/{job}"), state_is("FINISHED"))
        .await;
    let next = checkpointed(&cluster, folder.path(), Some(stopped)).await;
    let statistics = cluster
        .until(
            "the next job's checkpoint",
            &format!("/jobs/{next}/checkpoints"),
            completed(1),
        )
        .await;
    assert_eq!(statistics["latest"]["restored"]["external_path"], stopped);
    for savepoint in [path, stopped] {
        cluster.command(&["savepoint", "-d", savepoint]);
        assert!(!std::path::Path::new(savepoint.strip_prefix("file://").unwrap()).exists());
    }
}
