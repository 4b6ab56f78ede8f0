//! `run`, `info`, and what they say of what can't run.

use std::collections::HashMap;
use std::process::{Command, Output};

use crate::package::package;

fn thalweg(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(arguments)
        .env_remove("THALWEG_CONF_DIR")
        .env("RUST_LOG", "off")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with exit code 1 and one line that has this in it.
fn refused(arguments: &[&str], expected: &str) {
    let output = thalweg(arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stderr(&output);
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("thalweg: ") && last.contains(expected),
        "{last:?} should say {expected:?}"
    );
}

#[test]
fn run_counts_the_words_of_a_file_exactly_at_any_parallelism() {
    let folder = tempfile::tempdir().unwrap();
    let package = package("word-count", folder.path());
    let text = folder.path().join("text");
    let lines = "To be, or not to be:\nthat is the question.\n".repeat(500);
    std::fs::write(&text, lines).unwrap();
    for parallelism in ["1", "3"] {
        let output = thalweg(&[
            "run",
            package.to_str().unwrap(),
            "-p",
            parallelism,
            "--",
            "--input",
            text.to_str().unwrap(),
            "--sink",
            "print",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let mut newest = HashMap::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let pair = line.rsplit_once("> ").map_or(line, |(_, pair)| pair);
            let (word, count) = pair.trim_matches(['(', ')']).split_once(',').unwrap();
            newest.insert(word.to_owned(), count.parse::<u64>().unwrap());
        }
        let expected = [
            ("to", 1000),
            ("be", 1000),
            ("or", 500),
            ("not", 500),
            ("that", 500),
            ("is", 500),
        ];
        for (word, count) in expected {
            assert_eq!(
                newest.get(word),
                Some(&count),
                "{word} at parallelism {parallelism}"
            );
        }
        assert_eq!(newest.len(), 8);
    }
}

#[test]
fn info_prints_the_tasks_and_the_slots_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let package = package("word-count", folder.path());
    let output = thalweg(&[
        "info",
        package.to_str().unwrap(),
        "-p",
        "4",
        "--",
        "--input",
        "/text",
        "--sink",
        "blackhole",
    ]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(
        text.starts_with("word-count: 8 tasks in 2 vertices, 4 slots"),
        "{text} {}",
        stderr(&output)
    );
    assert!(text.contains("<- Source: lines -> words  HASH"), "{text}");
}

#[test]
fn what_is_wrong_with_a_package_or_its_main_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let misbehaving = package("misbehaving", folder.path());
    let misbehaving = misbehaving.to_str().unwrap();
    refused(&["run", "/no/such/package"], "/no/such/package");
    refused(
        &["run", misbehaving, "--", "never-executes"],
        "without calling execute()",
    );
    refused(
        &["run", misbehaving, "--", "panics"],
        "main went wrong on purpose",
    );
    refused(
        &["run", misbehaving, "--", "map-panics"],
        "map went wrong on purpose",
    );
    refused(&["run", misbehaving, "--", "worker-exits"], "exit code 7");
    refused(
        &[
            "run",
            misbehaving,
            "-D",
            "thalweg.extraction.timeout=300 ms",
            "--",
            "runs-forever",
        ],
        "thalweg.extraction.timeout",
    );
    refused(
        &["run", misbehaving, "-D", "paralelism.default=2"],
        "parallelism.default",
    );
    refused(
        &["run", misbehaving, "-D", "parallelism.default=many"],
        "parallelism.default",
    );
    refused(
        &["taskmanager", "-D", "taskmanager.memory.process.size=16m"],
        "taskmanager.memory.process.size",
    );
    refused(
        &["list", "--jobmanager", "http://127.0.0.1:1"],
        "http://127.0.0.1:1",
    );
    refused(&["cancel", "not-an-id"], "32 hex digits");
}

#[test]
fn what_is_wrong_with_a_snapshot_or_its_folder_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let misbehaving = package("misbehaving", folder.path());
    let misbehaving = misbehaving.to_str().unwrap();
    let run = |options: &[&str], expected: &str| {
        let arguments = [&["run", misbehaving], options, &["--", "well-behaved"]].concat();
        refused(&arguments, expected);
    };
    run(
        &["-s", "/no/such/savepoint"],
        "/no/such/savepoint/_metadata does not exist",
    );
    run(&["-s", "hdfs://host/savepoint"], "hdfs");
    run(
        &["-s", "/no/such/savepoint", "--claim-mode", "LEGACY"],
        "NO_CLAIM or CLAIM",
    );
    let damaged = folder.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("_metadata"), b"something else").unwrap();
    let damaged = damaged.to_str().unwrap();
    run(&["-s", damaged], &format!("{damaged}/_metadata"));
    refused(&["state", "inspect", damaged], &format!("{damaged}/_metadata"));
    refused(
        &["state", "inspect", "/no/such"],
        "/no/such/_metadata does not exist",
    );
    run(
        &[
            "-D",
            "execution.checkpointing.interval=1s",
            "-D",
            "execution.checkpointing.dir=/proc/nothing",
        ],
        "execution.checkpointing.dir",
    );
    let across = "execution.checkpointing.file-merging.across-checkpoint-boundary";
    run(&["-D", &format!("{across}=true")], across);
    refused(&["savepoint", "not-an-id"], "32 hex digits");
    refused(&["savepoint"], "which job?");
    refused(&["checkpoint", "not-an-id"], "32 hex digits");
    refused(&["stop", "not-an-id"], "32 hex digits");
    refused(&["checkpoints", "not-an-id"], "32 hex digits");
    refused(
        &["savepoint", "-d", "/some/savepoint", "-m", "http://127.0.0.1:1"],
        "http://127.0.0.1:1",
    );
}

#[test]
fn a_key_of_flinks_without_meaning_here_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let package = package("misbehaving", folder.path());
    let output = thalweg(&[
        "info",
        package.to_str().unwrap(),
        "-D",
        "env.java.opts.all=-Xmx1g",
        "--",
        "well-behaved",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
}
