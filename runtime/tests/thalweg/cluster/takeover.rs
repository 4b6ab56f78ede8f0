//! What runs while leaders change: attempts and worker processes; and what is started again when some of it was lost with the leader.

use std::path::Path;

use serde_json::{Value, json};

use super::high_availability::{Ports, job_manager};
use super::{Cluster, checkpointed, completed};

/// Each task's attempt, TaskManager and state.
pub(super) async fn attempts(cluster: &Cluster, job: &str) -> Vec<Value> {
    let details = cluster.get(&format!("/jobs/{job}")).await;
    let mut attempts = Vec::new();
    for vertex in details["vertices"].as_array().unwrap() {
        let path = format!("/jobs/{job}/vertices/{}", vertex["id"].as_str().unwrap());
        for subtask in cluster.get(&path).await["subtasks"].as_array().unwrap() {
            attempts.push(json!([
                subtask["attempt"],
                subtask["taskmanager-id"],
                subtask["status"]
            ]));
        }
    }
    attempts
}

/// The worker processes of all TaskManagers; while no job is submitted, nobody else starts any.
pub(super) fn workers(cluster: &Cluster) -> Vec<u32> {
    let parents: Vec<u32> = cluster.processes.iter().map(|process| process.0.id()).collect();
    let mut workers: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent(*pid).is_some_and(|parent| parents.contains(&parent)))
        .collect();
    workers.sort_unstable();
    workers
}

/// `PPid` of a process that is there.
fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

fn newest(statistics: &Value) -> Option<u64> {
    statistics["latest"]["completed"]["id"].as_u64()
}

#[tokio::test]
async fn when_a_task_manager_is_lost_with_the_leader_its_tasks_go_on_elsewhere_from_the_newest_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("high-availability");
    let ports = [Ports::free(), Ports::free()];
    let mut cluster = Cluster {
        rest: ports[0].rest(),
        processes: Vec::new(),
        rpc_port: ports[0].rpc,
    };
    job_manager(&mut cluster, ports[0], &storage);
    cluster
        .until("a leader", "/overview", |overview| overview["slots-total"] == 0)
        .await;
    job_manager(&mut cluster, ports[1], &storage);
    let addresses = ports.map(|ports| format!("127.0.0.1:{}", ports.rpc)).join(",");
    for id in ["tm-0", "tm-1"] {
        let arguments = ["taskmanager", "--resource-id", id, "--host", "127.0.0.1"];
        cluster.process_of(&addresses, ports[0].rpc, &arguments);
    }
    cluster
        .until("four slots", "/overview", |overview| {
            overview["slots-available"] == 4
        })
        .await;
    let job = checkpointed(&cluster, folder.path(), None).await;
    let statistics = format!("/jobs/{job}/checkpoints");
    let before = cluster.until("two checkpoints", &statistics, completed(2)).await;
    let ran = attempts(&cluster, &job).await;
    let lost = ran[0][1].clone();
    assert!(
        ran.iter().all(|task| task[1] == lost),
        "on one TaskManager: {ran:?}"
    );

    let place = if lost == "tm-0" { 2 } else { 3 };
    drop(cluster.processes.remove(place));
    drop(cluster.processes.remove(0));
    cluster.rest = ports[1].rest();
    let is_later = |statistics: &Value| statistics["latest"]["restored"]["id"].as_u64() >= newest(&before);
    let restored = cluster.until("a restore", &statistics, is_later).await;
    let goes_on = |statistics: &Value| newest(statistics) > newest(&restored);
    cluster.until("checkpoints", &statistics, goes_on).await;
    for (before, now) in ran.iter().zip(attempts(&cluster, &job).await) {
        assert!(now[0].as_u64() > before[0].as_u64() && now[1] != lost, "{now}");
    }
}
