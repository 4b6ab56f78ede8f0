//! Checkpoints on request, whose small files are merged; and the writer of `runtime/samples`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Cluster, completed, state_is};
use crate::package::package;
use crate::samples;

/// The job of the samples, so slow that it doesn't end.
async fn run(cluster: &Cluster, package: &Path, configuration: Value) -> String {
    let request = json!({
        "programArgsList": samples::arguments(50),
        "parallelism": 2,
        "flinkConfiguration": configuration,
    });
    let two = |overview: &Value| overview["slots-available"] == 2;
    cluster.until("two slots", "/overview", two).await;
    cluster.run(package, request).await
}

/// Until numbers of all keys went through.
async fn until_there_is_state(cluster: &Cluster, job: &str) {
    let (path, at_least) = (format!("/jobs/{job}"), 100);
    let read = |job: &Value| {
        let vertices = job["vertices"].as_array().cloned().unwrap_or_default();
        let read = |vertex: &Value| vertex["metrics"]["read-records"].as_u64().unwrap_or(0);
        vertices.iter().map(read).max().unwrap_or(0) >= at_least
    };
    cluster.until("some numbers", &path, read).await;
}

fn merging(checkpoints: &Path) -> Value {
    json!({
        "execution.checkpointing.dir": checkpoints,
        "execution.checkpointing.data-inline-threshold": "0 b",
        "execution.checkpointing.file-merging.enabled": "true",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    })
}

fn local(uri: &str) -> PathBuf {
    PathBuf::from(uri.trim().strip_prefix("file://").unwrap())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What is in the folder, at any depth.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in files(from) {
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

#[tokio::test]
async fn checkpoints_on_request_have_merged_files_that_go_when_nothing_of_them_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let package = package("remembering", folder.path());
    let cluster = Cluster::start(1);
    let job = run(&cluster, &package, merging(&folder.path().join("checkpoints"))).await;
    until_there_is_state(&cluster, &job).await;
    let full = local(&cluster.command(&["checkpoint", &job, "--full"]));
    assert!(full.ends_with(format!("{job}/chk-1")), "{}", full.display());
    let shared = full.with_file_name("shared");
    let first = files(&shared);
    assert_eq!(
        first.len(),
        1,
        "two operators in two subtasks have a run each: {first:?}"
    );
    let next = local(&cluster.command(&["checkpoint", &job]));
    assert!(next.ends_with(format!("{job}/chk-2")) && !full.exists());
    assert_eq!(files(&shared).len(), 2, "the second one builds on the first");
    let next = local(&cluster.command(&["checkpoint", &job, "--full"]));
    let gone = |_: &Value| files(&shared).len() == 1 && !first[0].exists();
    cluster
        .until("the files of the first two to go", "/overview", gone)
        .await;
    let listed = cluster.command(&["checkpoints", &job]);
    assert!(listed.starts_with("3 completed, 0 failed"), "{listed}");
    cluster.command(&["cancel", &job]);
    cluster
        .until("the job to end", &format!("/jobs/{job}"), state_is("CANCELED"))
        .await;
    samples::goes_on_from(&next, &package);

    // Claimed, its files are the next job's, and go with its first full checkpoint.
    let mut configuration = merging(&folder.path().join("checkpoints"));
    configuration["execution.state-recovery.path"] = json!(next);
    configuration["execution.state-recovery.claim-mode"] = json!("CLAIM");
    let claiming = run(&cluster, &package, configuration).await;
    let statistics = format!("/jobs/{claiming}/checkpoints");
    cluster
        .until("the restore", &statistics, |statistics| {
            statistics["counts"]["restored"] == 1
        })
        .await;
    cluster.command(&["checkpoint", &claiming]);
    assert_eq!(
        files(&shared).len(),
        1,
        "an incremental one builds on what was claimed"
    );
    cluster.command(&["checkpoint", &claiming, "--full"]);
    cluster.until("two checkpoints", &statistics, completed(2)).await;
    let gone = |_: &Value| files(&shared).is_empty() && !next.exists();
    cluster.until("what was claimed to go", "/overview", gone).await;
}

#[tokio::test]
#[ignore = "writes the sample of the newest version, once, when a version is made"]
async fn write_the_sample_of_a_new_version() {
    let folder = tempfile::tempdir().unwrap();
    let package = package("remembering", folder.path());
    let cluster = Cluster::start(1);
    if !samples::folder("v1").exists() {
        let job = run(
            &cluster,
            &package,
            json!({ "execution.checkpointing.data-inline-threshold": "0 b" }),
        )
        .await;
        until_there_is_state(&cluster, &job).await;
        let savepoints = folder.path().join("savepoints");
        let savepoint = cluster.command(&["stop", &job, "-p", savepoints.to_str().unwrap()]);
        copy(&local(&savepoint), &samples::folder("v1"));
    }
    if !samples::folder("v2").exists() {
        let job = run(&cluster, &package, merging(&folder.path().join("checkpoints"))).await;
        until_there_is_state(&cluster, &job).await;
        cluster.command(&["checkpoint", &job]);
        let checkpoint = local(&cluster.command(&["checkpoint", &job]));
        cluster.command(&["cancel", &job]);
        cluster
            .until("the job to end", &format!("/jobs/{job}"), state_is("CANCELED"))
            .await;
        copy(checkpoint.parent().unwrap(), &samples::folder("v2"));
    }
}
