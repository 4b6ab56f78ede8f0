//! A script with functions that its package brings along: at any parallelism, through a savepoint, and refused where they are not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{Cluster, completed, state_is};
use crate::package::package;

const PROGRAM: &str = "nexmark-functions";
const NUMBERS: i64 = 60_000;
/// So slow that the cluster doesn't come to the end.
const SLOWLY: &str = "rate=1000";
const AT_ONCE: &str = "rate=10000000";

/// Two remainders of each number, as the parts of a text: of each part the numbers' mean, weighted by its place, and how many ones there were.
const SCRIPT: &str = "
CREATE FUNCTION count_char AS 'com.github.nexmark.flink.udf.CountChar';
CREATE FUNCTION split_text AS 'com.example.Split';
CREATE FUNCTION weighted_average AS 'com.example.WeightedAverage';
CREATE TABLE numbers (n BIGINT) WITH (
  'connector' = 'datagen',
  'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '60000',
  'rows-per-second' = '${rate}'
);
CREATE VIEW remainders AS
  SELECT n, CAST(MOD(n, 7) AS STRING) || '/' || CAST(MOD(n, 3) AS STRING) AS both_of FROM numbers;
CREATE TABLE shown (part STRING, average BIGINT, ones BIGINT) WITH ('connector' = 'print');
INSERT INTO shown
  SELECT part, weighted_average(n, place), SUM(count_char(both_of, '1'))
  FROM remainders, LATERAL TABLE(split_text(both_of, '/')) AS parts (part, place)
  GROUP BY part;
";

/// The script and its program as a package.
fn scripted(folder: &Path, script: &str) -> PathBuf {
    let package = package(PROGRAM, folder);
    std::fs::write(package.join("main.sql"), script).unwrap();
    let manifest = format!(
        "formatVersion: 1\nname: {PROGRAM}\nentry: {{kind: sql, path: main.sql, program: bin/{PROGRAM}}}\n\
         apiVersion: \"0.1\"\ntarget: x86_64-unknown-linux-gnu\n"
    );
    std::fs::write(package.join("job.yaml"), manifest).unwrap();
    package
}

fn thalweg(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(arguments)
        .env_remove("THALWEG_CONF_DIR")
        .env("RUST_LOG", "off")
        .output()
        .unwrap()
}

fn run(package: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["run", package.to_str().unwrap()];
    arguments.extend(more);
    arguments.extend(["--", "-D", AT_ONCE]);
    thalweg(&arguments)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Of each part its newest row.
fn newest(output: &Output) -> BTreeMap<String, (i64, i64)> {
    assert!(output.status.success(), "{}", said(output));
    let printed = String::from_utf8_lossy(&output.stdout);
    let rows = printed.lines().filter_map(|line| {
        let begin = line.find("+I[").or_else(|| line.find("+U["))?;
        let row: Vec<&str> = line[begin + 3..].trim_end_matches(']').split(", ").collect();
        Some((
            row[0].to_owned(),
            (row[1].parse().unwrap(), row[2].parse().unwrap()),
        ))
    });
    rows.collect()
}

fn expected() -> BTreeMap<String, (i64, i64)> {
    let mut sums: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
    for n in 1..=NUMBERS {
        let parts = [n % 7, n % 3];
        let ones = parts.iter().filter(|part| **part == 1).count() as i64;
        for (place, part) in (1..).zip(parts) {
            let sum = sums.entry(part.to_string()).or_default();
            *sum = (sum.0 + n * place, sum.1 + place, sum.2 + ones);
        }
    }
    let row = |(products, weights, ones)| (products / weights, ones);
    sums.into_iter().map(|(part, sums)| (part, row(sums))).collect()
}

/// Runs the package on a cluster for some checkpoints, and stops it behind a savepoint.
async fn stopped(package: &Path, folder: &Path) -> String {
    let cluster = Cluster::start(1);
    let two = |overview: &Value| overview["slots-available"] == 2;
    cluster.until("two slots", "/overview", two).await;
    let request = json!({
        "programArgsList": ["-D", SLOWLY],
        "parallelism": 2,
        "flinkConfiguration": {
            "execution.checkpointing.interval": "100 ms",
            "execution.checkpointing.dir": folder.join("checkpoints"),
        },
    });
    let job = cluster.run(package, request).await;
    let path = format!("/jobs/{job}");
    cluster.until("the job to run", &path, state_is("RUNNING")).await;
    let statistics = format!("{path}/checkpoints");
    cluster.until("checkpoints", &statistics, completed(2)).await;
    let savepoint = cluster.command(&["stop", &job, "-p", folder.join("savepoints").to_str().unwrap()]);
    cluster.until("the job to end", &path, state_is("FINISHED")).await;
    savepoint.trim().to_owned()
}

#[tokio::test]
async fn a_script_with_functions_goes_on_from_its_savepoint_at_another_parallelism() {
    let folder = tempfile::tempdir().unwrap();
    let package = scripted(folder.path(), SCRIPT);
    let savepoint = stopped(&package, folder.path()).await;
    assert_eq!(newest(&run(&package, &["-p", "3", "-s", &savepoint])), expected());
}

#[test]
fn a_script_runs_with_functions_here_too() {
    let folder = tempfile::tempdir().unwrap();
    let package = scripted(folder.path(), SCRIPT);
    let script = package.join("main.sql");
    let program = package.join("bin").join(PROGRAM);
    let sql = |program: &Path| {
        let (program, script) = (program.to_str().unwrap(), script.to_str().unwrap());
        thalweg(&["sql", "--functions", program, "-f", script, "-D", AT_ONCE])
    };
    assert_eq!(newest(&sql(&program)), expected());
    let missing = sql(&package.join("bin/none"));
    assert!(!missing.status.success());
    assert!(
        said(&missing).contains("(--functions) can't be started"),
        "{}",
        said(&missing)
    );
}

#[test]
fn functions_that_are_not_there_are_refused_at_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |script: &str, from: &str, to: &str, expected: &str| {
        let package = scripted(folder.path(), script);
        let manifest = std::fs::read_to_string(package.join("job.yaml")).unwrap();
        std::fs::write(package.join("job.yaml"), manifest.replace(from, to)).unwrap();
        let output = run(&package, &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    };
    let class = "main.sql: Not supported at line 14, column 48: Function 'count_char' can't be called: no package has the class 'a.B'";
    let other = SCRIPT.replace("com.github.nexmark.flink.udf.CountChar", "a.B");
    refused(&other, "", "", class);
    let of_engine = "can't be called: no package has the class 'com.example.Split'; this program has none";
    refused(SCRIPT, &format!(", program: bin/{PROGRAM}"), "", of_engine);
    let none = "has no file bin/none, which its job.yaml names as entry.program";
    refused(
        SCRIPT,
        &format!("program: bin/{PROGRAM}"),
        "program: bin/none",
        none,
    );
    let version = "built with thalweg-api 7.0";
    refused(SCRIPT, "\"0.1\"", "\"7.0\"", version);
}
