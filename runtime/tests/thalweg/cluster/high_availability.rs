//! Several JobManagers as processes: the one that leads is killed, the next one paused and woken, and the job loses nothing.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::rescaling::{SLOWLY, arguments, every_key_has_its_state};
use super::takeover::{attempts, workers};
use super::{Cluster, completed, free_port, state_is};
use crate::package::package;

/// Ports of one JobManager.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) rpc: u16,
    rest: u16,
}

impl Ports {
    pub(super) fn free() -> Self {
        Self {
            rpc: free_port(),
            rest: free_port(),
        }
    }

    pub(super) fn rest_port(self) -> u16 {
        self.rest
    }

    pub(super) fn rest(self) -> String {
        format!("http://127.0.0.1:{}", self.rest)
    }
}

/// Starts one; its place among the cluster's processes.
pub(super) fn job_manager(cluster: &mut Cluster, ports: Ports, storage: &Path) -> usize {
    let settings = [
        "high-availability.type=storage".to_owned(),
        format!("high-availability.storageDir=file://{}", storage.display()),
        format!("rest.port={}", ports.rest),
        "jobmanager.bind-host=127.0.0.1".to_owned(),
        "thalweg.high-availability.leader-timeout=3 s".to_owned(),
    ];
    let defined = settings.iter().flat_map(|setting| ["-D", setting]);
    let command = ["jobmanager", "--host", "127.0.0.1"];
    let command: Vec<&str> = command.into_iter().chain(defined).collect();
    cluster.process_of("127.0.0.1", ports.rpc, &command);
    cluster.processes.len() - 1
}

fn signal(cluster: &Cluster, process: usize, signal: Signal) {
    let id = cluster.processes[process].0.id();
    kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
}

/// Waits until the job runs and takes checkpoints under the leader that now answers.
async fn goes_on(cluster: &Cluster, job: &str) {
    let path = format!("/jobs/{job}");
    cluster
        .until("the job to go on", &path, state_is("RUNNING"))
        .await;
    let statistics = format!("{path}/checkpoints");
    cluster.until("checkpoints", &statistics, completed(2)).await;
}

/// How often tasks were restarted, as this leader knows.
async fn restarts(cluster: &Cluster, job: &str) -> Value {
    let metrics = cluster.get(&format!("/jobs/{job}/metrics?get=numRestarts")).await;
    metrics[0]["value"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_outlives_leaders_that_are_killed_and_paused() {
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("high-availability");
    let package = package("remembering", folder.path());
    let ports = [Ports::free(), Ports::free(), Ports::free()];
    let mut cluster = Cluster {
        rest: ports[0].rest(),
        processes: Vec::new(),
        rpc_port: ports[0].rpc,
    };
    let first = job_manager(&mut cluster, ports[0], &storage);
    cluster
        .until("a leader", "/overview", |overview| overview["slots-total"] == 0)
        .await;
    let second = job_manager(&mut cluster, ports[1], &storage);
    let addresses = ports.map(|ports| format!("127.0.0.1:{}", ports.rpc)).join(",");
    for id in ["tm-0", "tm-1"] {
        cluster.process_of(
            &addresses,
            ports[0].rpc,
            &["taskmanager", "--resource-id", id, "--host", "127.0.0.1"],
        );
    }
    cluster
        .until("four slots", "/overview", |overview| {
            overview["slots-available"] == 4
        })
        .await;
    let request = json!({
        "programArgsList": arguments(SLOWLY),
        "parallelism": 4,
        "flinkConfiguration": {
            "execution.checkpointing.interval": "100 ms",
            "execution.checkpointing.dir": folder.path().join("checkpoints"),
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "100",
            "restart-strategy.fixed-delay.delay": "10 ms",
        },
    });
    // A standby takes what it is asked to the leader.
    cluster.rest = ports[1].rest();
    cluster
        .until("the standby to know it", "/overview", |overview| {
            overview["slots-total"] == 4
        })
        .await;
    let job = cluster.run(&package, request).await;
    goes_on(&cluster, &job).await;

    let what_runs = (attempts(&cluster, &job).await, workers(&cluster));
    assert_eq!(what_runs.1.len(), 2, "a worker on each TaskManager");
    signal(&cluster, first, Signal::SIGKILL);
    goes_on(&cluster, &job).await;
    assert_eq!(restarts(&cluster, &job).await, "0", "no task was restarted");
    assert_eq!((attempts(&cluster, &job).await, workers(&cluster)), what_runs);

    let third = job_manager(&mut cluster, ports[2], &storage);
    signal(&cluster, second, Signal::SIGSTOP);
    cluster.rest = ports[2].rest();
    goes_on(&cluster, &job).await;
    signal(&cluster, second, Signal::SIGCONT);
    let ended = tokio::task::block_in_place(|| cluster.processes[second].0.wait()).unwrap();
    assert_eq!(ended.code(), Some(1), "it leads no longer");
    assert_eq!(restarts(&cluster, &job).await, "0", "no task was restarted");
    assert_eq!((attempts(&cluster, &job).await, workers(&cluster)), what_runs);
    let still = cluster.processes[third].0.try_wait().unwrap();
    assert!(still.is_none(), "{still:?}");

    let savepoints = folder.path().join("savepoints");
    let savepoint = cluster.command(&["stop", &job, "-p", savepoints.to_str().unwrap()]);
    cluster
        .until("the job to end", &format!("/jobs/{job}"), state_is("FINISHED"))
        .await;
    every_key_has_its_state(&package, savepoint.trim());
}
