//! Every kind of keyed state through kills, savepoints and other parallelisms: what each key remembers at the end is what a count
//! on paper says.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Cluster, completed, state_is};
use crate::package::package;

const NUMBERS: i64 = 60_000;
const KEYS: i64 = 97;
/// So slow that no run but the last comes to the end.
pub(super) const SLOWLY: i64 = 1_000;
const AT_ONCE: i64 = 10_000_000;

pub(super) fn arguments(rate: i64) -> [String; 3] {
    [NUMBERS, KEYS, rate].map(|argument| argument.to_string())
}

/// What the job prints for a key if nothing is lost and nothing comes twice.
fn expected(key: i64) -> String {
    let numbers: Vec<i64> = (key..NUMBERS).step_by(KEYS as usize).collect();
    let (count, sum) = (numbers.len(), numbers.iter().sum::<i64>());
    let largest = numbers[count - 1];
    format!(
        "counted {count}, listed {count}, mapped {count}, map sum {sum}, summed {sum}, largest {largest}, fired {count}, \
         in windows {count}"
    )
}

fn restored(at_least: u64) -> impl Fn(&Value) -> bool {
    move |statistics| statistics["counts"]["restored"].as_u64().unwrap_or(0) >= at_least
}

async fn free_slots(cluster: &Cluster, wanted: u64) {
    let enough = move |overview: &Value| overview["slots-available"] == wanted;
    cluster.until("free slots", "/overview", enough).await;
}

/// Runs the job from a savepoint, kills the TaskManager `victim` after a checkpoint, starts `next` in its place, and stops the job
/// with a savepoint once it has gone on from a checkpoint.
async fn run_with_a_kill(
    cluster: &mut Cluster,
    package: &Path,
    savepoints: &Path,
    request: Value,
    (victim, next): (usize, &str),
) -> String {
    let restored_at_start = u64::from(!request["savepointPath"].is_null());
    let job = cluster.run(package, request).await;
    let statistics = format!("/jobs/{job}/checkpoints");
    let begun = cluster.until("checkpoints", &statistics, completed(2)).await;
    assert_eq!(begun["counts"]["restored"], restored_at_start);
    drop(cluster.processes.remove(victim));
    cluster.process(&["taskmanager", "--resource-id", next, "--host", "127.0.0.1"]);
    let gone_on = cluster
        .until("the restore", &statistics, restored(restored_at_start + 1))
        .await;
    let so_far = gone_on["counts"]["completed"].as_u64().unwrap();
    cluster
        .until("checkpoints after it", &statistics, completed(so_far + 1))
        .await;
    let savepoint = cluster.command(&["stop", &job, "-p", savepoints.to_str().unwrap()]);
    cluster
        .until("the job to end", &format!("/jobs/{job}"), state_is("FINISHED"))
        .await;
    savepoint.trim().to_owned()
}

#[tokio::test]
async fn every_key_keeps_its_state_from_two_to_five_to_three_subtasks_with_kills_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let package = package("remembering", folder.path());
    let savepoints = folder.path().join("savepoints");
    let request = |parallelism: u32, backend: &str, savepoint: Option<&str>| {
        json!({
            "programArgsList": arguments(SLOWLY),
            "parallelism": parallelism,
            "savepointPath": savepoint,
            "flinkConfiguration": {
                "state.backend.type": backend,
                "execution.checkpointing.interval": "100 ms",
                "execution.checkpointing.dir": folder.path().join("checkpoints"),
                "restart-strategy.type": "fixed-delay",
                "restart-strategy.fixed-delay.attempts": "100",
                "restart-strategy.fixed-delay.delay": "10 ms",
            },
        })
    };
    let mut cluster = Cluster::start(1);
    free_slots(&cluster, 2).await;
    let two = request(2, "hashmap", None);
    let first = run_with_a_kill(&mut cluster, &package, &savepoints, two, (1, "tm-a")).await;
    for id in ["tm-b", "tm-c"] {
        cluster.process(&["taskmanager", "--resource-id", id, "--host", "127.0.0.1"]);
    }
    free_slots(&cluster, 6).await;
    let five = request(5, "rocksdb", Some(&first));
    let second = run_with_a_kill(&mut cluster, &package, &savepoints, five, (1, "tm-d")).await;

    every_key_has_its_state(&package, &second);
}

/// Runs the job from a savepoint to its end, and compares what it prints with what is right.
pub(super) fn every_key_has_its_state(package: &Path, savepoint: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(["run", package.to_str().unwrap(), "-p", "3", "-s", savepoint, "--"])
        .args(arguments(AT_ONCE))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = String::from_utf8(output.stdout).unwrap();
    let remembered: BTreeMap<i64, &str> = output
        .lines()
        .map(|line| {
            let (_, said) = line.split_once("key ").unwrap();
            let (key, what) = said.split_once(": ").unwrap();
            (key.parse().unwrap(), what)
        })
        .collect();
    assert_eq!(output.lines().count(), KEYS as usize, "one line a key");
    for key in 0..KEYS {
        assert_eq!(remembered[&key], expected(key), "key {key}");
    }
}
