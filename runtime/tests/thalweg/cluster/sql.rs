//! SQL scripts as jobs of a cluster: through kills, savepoints and other parallelisms, edited in between, and refused with their line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{Cluster, completed, state_is};

mod batch;
mod cases;
mod operators;

const NUMBERS: i64 = 60_000;
const KEYS: i64 = 97;
/// So slow that no run but the last comes to the end.
const SLOWLY: &str = "rate=1000";
const AT_ONCE: &str = "rate=10000000";

/// Each key's numbers: counted and summed in one window, which ends with the input, to files; counted to the console, which shows each update.
const SCRIPT: &str = "
SET 'pipeline.name' = 'counts';
CREATE TABLE numbers (
  n BIGINT,
  k AS MOD(n, 97),
  ts AS TO_TIMESTAMP_LTZ(n, 3),
  WATERMARK FOR ts AS ts
) WITH (
  'connector' = 'datagen',
  'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '60000',
  'rows-per-second' = '${rate}'
);
CREATE TABLE results (k BIGINT, c BIGINT, s BIGINT)
  WITH ('connector' = 'filesystem', 'path' = 'file://${out}', 'format' = 'csv');
CREATE TABLE shown (k BIGINT, c BIGINT) WITH ('connector' = 'print');
INSERT INTO results
  SELECT k, COUNT(*), SUM(n) FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '1' HOUR))
  GROUP BY k, window_start, window_end;
INSERT INTO shown SELECT k, COUNT(*) FROM numbers GROUP BY k;
";
const SHOWN: &str = "INSERT INTO shown SELECT k, COUNT(*) FROM numbers GROUP BY k;";

struct Scripts {
    folder: tempfile::TempDir,
}

impl Scripts {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The variable `out`: this folder.
    fn out(&self, folder: &str) -> String {
        format!("out={}", self.path(folder).display())
    }

    /// Runs a script in one process tree.
    fn run(&self, script: &str, rate: &str, out: &str, more: &[&str]) -> Output {
        let file = self.path("counts.sql");
        std::fs::write(&file, script).unwrap();
        Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args(["run", file.to_str().unwrap(), "-D", rate, "-D", &self.out(out)])
            .args(more)
            .env_remove("THALWEG_CONF_DIR")
            .env("RUST_LOG", "off")
            .output()
            .unwrap()
    }

    /// The rows of a folder's files by their first column.
    fn results(&self, out: &str) -> BTreeMap<i64, (i64, i64)> {
        let mut rows = BTreeMap::new();
        for entry in std::fs::read_dir(self.path(out)).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                continue;
            }
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let numbers: Vec<i64> = line.split(',').map(|number| number.parse().unwrap()).collect();
                let before = rows.insert(numbers[0], (numbers[1], numbers[2]));
                assert_eq!(before, None, "key {} is there once", numbers[0]);
            }
        }
        rows
    }
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn expected() -> BTreeMap<i64, (i64, i64)> {
    let of_key = |key: i64| {
        let numbers: Vec<i64> = (1..=NUMBERS).filter(|number| number % KEYS == key).collect();
        (numbers.len() as i64, numbers.iter().sum())
    };
    (0..KEYS).map(|key| (key, of_key(key))).collect()
}

/// The newest row of each key that was printed, `+I[k, c]` or `+U[k, c]`.
fn newest(printed: &str) -> BTreeMap<i64, i64> {
    let rows = printed.lines().filter_map(|line| {
        let begin = line.find("+I[").or_else(|| line.find("+U["))?;
        line[begin + 3..].trim_end_matches(']').split_once(", ")
    });
    rows.map(|(key, count)| (key.parse().unwrap(), count.parse().unwrap()))
        .collect()
}

fn counts() -> BTreeMap<i64, i64> {
    expected()
        .into_iter()
        .map(|(key, (count, _))| (key, count))
        .collect()
}

/// Runs a script on a cluster, kills its TaskManager, and stops it behind a later checkpoint: the savepoint.
async fn stopped_behind_a_kill(scripts: &Scripts, script: &str, out: &str) -> String {
    let mut cluster = Cluster::start(1);
    let two = |overview: &Value| overview["slots-available"] == 2;
    cluster.until("two slots", "/overview", two).await;
    let request = json!({
        "programArgsList": ["-D", SLOWLY, "-D", scripts.out(out)],
        "parallelism": 2,
        "flinkConfiguration": {
            "execution.checkpointing.interval": "100 ms",
            "execution.checkpointing.dir": scripts.path("checkpoints"),
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "100",
            "restart-strategy.fixed-delay.delay": "10 ms",
        },
    });
    let job = cluster
        .submit(script.into(), "counts.sql", request)
        .await
        .unwrap();
    let path = format!("/jobs/{job}");
    let running = cluster.until("the job to run", &path, state_is("RUNNING")).await;
    let said_name = if script == SCRIPT { "counts" } else { "operators" };
    assert_eq!(running["name"], said_name, "SET says what it is called");
    let statistics = format!("{path}/checkpoints");
    cluster.until("checkpoints", &statistics, completed(2)).await;
    drop(cluster.processes.pop());
    cluster.process(&["taskmanager", "--resource-id", "tm-next", "--host", "127.0.0.1"]);
    let restored = |statistics: &Value| statistics["counts"]["restored"].as_u64().unwrap_or(0) >= 1;
    let gone_on = cluster.until("the restore", &statistics, restored).await;
    let so_far = gone_on["counts"]["completed"].as_u64().unwrap();
    cluster
        .until("checkpoints after it", &statistics, completed(so_far + 1))
        .await;
    let savepoints = scripts.path("savepoints");
    let savepoint = cluster.command(&["stop", &job, "-p", savepoints.to_str().unwrap()]);
    cluster.until("the job to end", &path, state_is("FINISHED")).await;
    savepoint.trim().to_owned()
}

#[test]
fn a_script_runs_to_its_end_at_any_parallelism() {
    let scripts = Scripts::new();
    for parallelism in ["1", "2"] {
        let out = format!("out-{parallelism}");
        let output = printed(&scripts.run(SCRIPT, AT_ONCE, &out, &["-p", parallelism]));
        assert_eq!(newest(&output), counts());
        assert_eq!(scripts.results(&out), expected());
    }
}

#[tokio::test]
async fn a_script_goes_on_from_its_savepoint_at_another_parallelism_and_edited_as_far_as_its_state_allows() {
    let scripts = Scripts::new();
    let savepoint = stopped_behind_a_kill(&scripts, SCRIPT, "unused").await;
    let from = ["-p", "3", "-s", &savepoint];

    let output = printed(&scripts.run(SCRIPT, AT_ONCE, "same", &from));
    assert_eq!(newest(&output), counts());
    assert_eq!(scripts.results("same"), expected());

    // What lies above the last state, and another INSERT.
    let above = SHOWN.replace("COUNT(*)", "COUNT(*) + 1000000");
    let other = "CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole');\n\
                 INSERT INTO nowhere SELECT n FROM numbers WHERE n < 5;";
    let edited = SCRIPT.replace(SHOWN, &format!("{above}\n{other}"));
    let output = printed(&scripts.run(&edited, AT_ONCE, "edited", &from));
    let raised = counts().into_iter().map(|(key, count)| (key, count + 1_000_000));
    assert_eq!(newest(&output), raised.collect());
    assert_eq!(scripts.results("edited"), expected());

    let refused = |script: &str, expected: &[&str]| {
        let output = scripts.run(script, AT_ONCE, "refused", &from);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for expected in expected {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
    };
    // Another key, or an INSERT less: whose state it is is said.
    let another_key = SCRIPT.replace(
        SHOWN,
        "INSERT INTO shown SELECT n, COUNT(*) FROM numbers GROUP BY n;",
    );
    let whose = "default_catalog.default_database.shown/GroupAggregate[k]";
    refused(&another_key, &[whose]);
    refused(&SCRIPT.replace(SHOWN, ""), &[whose]);
    // Another aggregate of the same key: which operator and column.
    let another_column = SHOWN.replace("COUNT(*)", "SUM(n)");
    let another_column = SCRIPT.replace(SHOWN, &another_column);
    let what = [
        "GroupAggregate(groupBy=[k], select=[k, SUM(n)",
        "state \"accumulators\": column \"COUNT",
    ];
    refused(&another_column, &what);

    // Unless new columns may begin now, or the state is given up.
    let allowed = format!("SET 'thalweg.table.state.changed-columns' = 'true';\n{another_column}");
    printed(&scripts.run(&allowed, AT_ONCE, "allowed", &from));
    assert_eq!(scripts.results("allowed"), expected());
    let without = SCRIPT.replace(SHOWN, "");
    let dropped = [&from[..], &["-n"]].concat();
    printed(&scripts.run(&without, AT_ONCE, "dropped", &dropped));
    assert_eq!(scripts.results("dropped"), expected());
}

#[test]
fn what_is_wrong_with_a_script_is_said_with_its_line_and_a_caret() {
    let scripts = Scripts::new();
    let refused = |script: &str, expected: &[&str]| {
        let output = scripts.run(script, SLOWLY, "refused", &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for expected in expected {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
    };
    refused(
        &SCRIPT.replace("FROM numbers GROUP", "FROM numbrs GROUP"),
        &[
            "thalweg: counts.sql: Invalid statement at line 19, column 43: Unknown table 'numbrs'; did you mean 'numbers'?",
            "\n   |                                           ^\n",
        ],
    );
    refused(
        &SCRIPT.replace("GROUP BY k;", "GROUP k;"),
        &["counts.sql: ", "line 19, column 57", "expected BY"],
    );
    refused(
        &SCRIPT.replace(SHOWN, "SELECT k FROM numbers;"),
        &["line 19, column 1", "INSERT INTO"],
    );
    refused(
        "CREATE TABLE a (b INT) WITH ('connector' = 'print');",
        &["no INSERT"],
    );
    refused(&SCRIPT.replace("'print'", "'prnt'"), &["prnt"]);
}

#[tokio::test]
async fn a_script_that_can_not_run_is_refused_at_its_submission() {
    let cluster = Cluster::start(0);
    let up = |overview: &Value| overview["slots-total"] == 0;
    cluster.until("the JobManager", "/overview", up).await;
    let script = SCRIPT.replace("FROM numbers GROUP", "FROM numbrs GROUP");
    let request = json!({"programArgsList": ["-D", SLOWLY, "-D", "out=/nowhere"]});
    let refusal = cluster.submit(script.into(), "counts.sql", request).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(
        refusal.contains("line 19, column 43") && refusal.contains("Unknown table 'numbrs'"),
        "{refusal}"
    );
    let other = json!({"programArgsList": ["--topic", "bids"]});
    let refusal = cluster.submit(SCRIPT.into(), "counts.sql", other).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(
        refusal.contains("\\\"--topic\\\" is not -D KEY=VALUE"),
        "{refusal}"
    );
}

/// A script in a package of its own, with a default for its variables and configuration of its own.
fn package(folder: &Path) -> PathBuf {
    let package = folder.join("packaged");
    std::fs::create_dir_all(&package).unwrap();
    std::fs::write(package.join("main.sql"), SCRIPT).unwrap();
    let manifest = format!(
        "formatVersion: 1\nname: packaged\nentry: {{kind: sql, path: main.sql}}\n\
         arguments: [-D, {AT_ONCE}, -D, \"out={}\"]\nconfiguration: {{parallelism.default: 2}}\n",
        folder.join("out").display()
    );
    std::fs::write(package.join("job.yaml"), manifest).unwrap();
    package
}

#[test]
fn a_package_with_a_script_has_its_own_arguments_and_configuration() {
    let scripts = Scripts::new();
    let package = package(scripts.folder.path());
    let thalweg = |verb: &str| {
        let command = Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args([verb, package.to_str().unwrap()])
            .env_remove("THALWEG_CONF_DIR")
            .env("RUST_LOG", "off")
            .output();
        printed(&command.unwrap())
    };
    assert!(thalweg("info").contains("parallelism 2"));
    assert_eq!(newest(&thalweg("run")), counts());
    assert_eq!(scripts.results("out"), expected());
}
