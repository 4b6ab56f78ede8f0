//! The SQL cases of `runtime/sql/tests/cases` through a kill: each gives the same rows when it is killed behind a savepoint in the middle of
//! its input and goes on at another parallelism.
//!
//! ```text
//!   case --rewritten--> sources that wait behind their first half; sinks to files of changes, exactly once
//!     all, parallelism 1 ------------------------------------------> files --+
//!     half, parallelism 2 -> savepoint -> TaskManager killed                 +-- the same is left of both changelogs
//!                              +-> the rest, parallelism 3 --------> files --+
//! ```
//!
//! The whole is compared with Flink elsewhere (`runtime/tests/sql`). `THALWEG_SQL_RESTORES` says how many cases are left out behind each one
//! that is taken: 0 takes all.

use std::fs;

use super::*;

/// Without it a sample, since each takes seconds.
const LEFT_OUT: usize = 24;
/// Rows a second: the first half at once and the second one never, or all.
const HALF: &str = "0.01";
const ALL: &str = "1000000000";
const JSON: [&str; 4] = ["bids", "nested", "orders", "payments"];
const DEBEZIUM: [&str; 2] = ["rates", "stock"];
/// What the rewritten form doesn't have.
const OTHERS: [&str; 7] = [
    "${input}",
    "${output}",
    "'csv",
    "'json.",
    "'path' = '/",
    "print-identifier",
    "runtime-mode",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/tests").join(name)
}

/// The case with sources that wait in the middle and sinks that a kill doesn't double; `None` where it has others, or nothing to write.
fn rewritten(script: &str, inputs: &[Input]) -> Option<String> {
    let mut text = script.to_owned();
    for input in inputs {
        let path = format!("'path' = '${{input}}/{}'", input.file);
        let rows = format!(
            "'from-file' = '${{rows}}/{}', 'rows-per-second' = '${{rate}}', 'rows-per-batch' = '{}'",
            input.file,
            input.lines.len().div_ceil(2)
        );
        text = text.replace(&path, &rows);
    }
    text = text
        .replace("'connector' = 'filesystem'", "'connector' = 'thalweg-values'")
        .replace("'format' = 'json'", "'bounded' = 'true'")
        .replace("'format' = 'debezium-json'", "'changelog-mode' = 'I,UB,UA,D'");
    let mut sinks = text.split("'connector' = 'print'");
    let mut whole = sinks.next()?.to_owned();
    for (number, part) in sinks.enumerate() {
        whole += &format!(
            "'connector' = 'filesystem', 'path' = 'file://${{out}}/{number}', 'format' = 'debezium-json'{part}"
        );
    }
    let writes = whole.contains("INSERT INTO") && whole.contains("'connector' = 'thalweg-values'");
    let selects = whole
        .split(';')
        .any(|statement| statement.trim_start().starts_with("SELECT"));
    (writes && !selects && !OTHERS.iter().any(|other| whole.contains(other))).then_some(whole)
}

/// A line of debezium-json as lines of `thalweg-values`.
fn changes(line: &str) -> Vec<String> {
    let change: Value = serde_json::from_str(line).unwrap();
    let row = |side: &str, op: &str| {
        let mut row = change[side].clone();
        row["op"] = json!(op);
        row.to_string()
    };
    match change["op"].as_str().unwrap() {
        "c" | "r" => vec![row("after", "+I")],
        "u" => vec![row("before", "-U"), row("after", "+U")],
        "d" => vec![row("before", "-D")],
        other => panic!("{other} in {line}"),
    }
}

/// What a source gives, as lines of `thalweg-values`.
struct Input {
    file: String,
    lines: Vec<String>,
}

fn inputs() -> Vec<Input> {
    let lines = |file: &str| fs::read_to_string(folder("input").join(file)).unwrap();
    let plain = JSON.iter().map(|name| {
        let file = format!("{name}.json");
        let lines = lines(&file).lines().map(str::to_owned).collect();
        Input { file, lines }
    });
    let changing = DEBEZIUM.iter().map(|name| {
        let file = format!("{name}.debezium.json");
        let lines = lines(&file).lines().flat_map(changes).collect();
        Input { file, lines }
    });
    plain.chain(changing).collect()
}

/// What is left of the changes in the folders of a run's sinks, each with the sink's number.
fn left(out: &Path) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    let Ok(sinks) = fs::read_dir(out) else { return rows };
    for sink in sinks.map(|sink| sink.unwrap().path()) {
        for file in fs::read_dir(&sink).unwrap().map(|file| file.unwrap().path()) {
            if file.file_name().unwrap().to_str().unwrap().starts_with('.') {
                continue;
            }
            for line in fs::read_to_string(file).unwrap().lines() {
                let change: Value = serde_json::from_str(line).unwrap();
                let (side, by) = if change["op"] == "d" {
                    ("before", -1)
                } else {
                    ("after", 1)
                };
                let row = format!("{} {}", sink.file_name().unwrap().display(), change[side]);
                *rows.entry(row).or_default() += by;
            }
        }
    }
    rows.retain(|_, count| *count != 0);
    rows
}

struct Case {
    name: String,
    script: String,
}

fn cases(inputs: &[Input]) -> Vec<Case> {
    let mut found = Vec::new();
    let root = folder("cases");
    for area in fs::read_dir(&root).unwrap().map(|area| area.unwrap().path()) {
        for path in fs::read_dir(area).unwrap().map(|path| path.unwrap().path()) {
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let expected = fs::read_to_string(path.with_extension("out")).unwrap();
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .with_extension("")
                .display()
                .to_string();
            let refused = expected.contains("ERROR: ");
            let script = rewritten(&fs::read_to_string(&path).unwrap(), inputs).filter(|_| !refused);
            found.extend(script.map(|script| Case { name, script }));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

struct Lane {
    scripts: Scripts,
    cluster: Cluster,
    task_managers: usize,
}

impl Lane {
    fn new(inputs: &[Input]) -> Self {
        let scripts = Scripts::new();
        let rows = scripts.path("rows");
        fs::create_dir(&rows).unwrap();
        for input in inputs {
            fs::write(rows.join(&input.file), input.lines.join("\n")).unwrap();
        }
        Self {
            scripts,
            cluster: Cluster::start(0),
            task_managers: 0,
        }
    }

    fn variables(&self, rate: &str, out: &str) -> [String; 3] {
        [
            format!("rows={}", self.scripts.path("rows").display()),
            format!("rate={rate}"),
            self.scripts.out(out),
        ]
    }

    fn run(&self, verb: &[&str], variables: &[String; 3], more: &[&str]) -> Result<(), String> {
        let file = self.scripts.path("case.sql");
        let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
        command.args(verb).arg(&file).args(more);
        for variable in variables {
            command.args(["-D", variable]);
        }
        let output = command
            .env_remove("THALWEG_CONF_DIR")
            .env("RUST_LOG", "off")
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(said(&output)),
        }
    }

    /// A savepoint behind the first half of the case's input; nothing of that job is left but it.
    async fn savepoint(&mut self, script: &str) -> Result<String, String> {
        self.task_managers += 1;
        let id = format!("tm-{}", self.task_managers);
        self.cluster
            .process(&["taskmanager", "--resource-id", &id, "--host", "127.0.0.1"]);
        let two = |overview: &Value| overview["slots-available"] == 2;
        self.cluster.until("two slots", "/overview", two).await;
        let arguments: Vec<String> = self
            .variables(HALF, "parts")
            .into_iter()
            .flat_map(|variable| ["-D".to_owned(), variable])
            .collect();
        let request = json!({"programArgsList": arguments, "parallelism": 2});
        let submitted = self.cluster.submit(script.into(), "case.sql", request).await;
        let job = submitted.map_err(|refusal| refusal.to_string())?;
        let path = format!("/jobs/{job}");
        let running = |job: &Value| job["state"] == "RUNNING" || job["state"] == "FAILED";
        self.cluster.until("the job to run", &path, running).await;
        // Before its sources gave their rows a savepoint tells less, and nothing wrong.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let savepoints = self.scripts.path("savepoints");
        let savepoint = self
            .cluster
            .command(&["savepoint", &job, savepoints.to_str().unwrap()]);
        drop(self.cluster.processes.pop());
        self.cluster
            .until("the job to fail", &path, state_is("FAILED"))
            .await;
        let none = |overview: &Value| overview["slots-total"] == 0;
        self.cluster.until("no slots", "/overview", none).await;
        Ok(savepoint.trim().to_owned())
    }

    /// What differs.
    async fn check(&mut self, case: &Case) -> Result<(), String> {
        for out in ["whole", "parts"] {
            let _ = fs::remove_dir_all(self.scripts.path(out));
        }
        fs::write(self.scripts.path("case.sql"), &case.script).unwrap();
        self.run(
            &["sql", "-f"],
            &self.variables(ALL, "whole"),
            &["-D", "table.dml-sync=true"],
        )?;
        let savepoint = self.savepoint(&case.script).await?;
        let from = ["-p", "3", "-s", &savepoint];
        self.run(&["run"], &self.variables(ALL, "parts"), &from)?;
        let (whole, parts) = (
            left(&self.scripts.path("whole")),
            left(&self.scripts.path("parts")),
        );
        match whole == parts {
            true => Ok(()),
            false => Err(difference(&whole, &parts)),
        }
    }
}

fn difference(whole: &BTreeMap<String, i64>, parts: &BTreeMap<String, i64>) -> String {
    let keys = whole
        .keys()
        .chain(parts.keys())
        .collect::<std::collections::BTreeSet<_>>();
    let lines = keys.into_iter().filter_map(|row| {
        let (whole, parts) = (whole.get(row).unwrap_or(&0), parts.get(row).unwrap_or(&0));
        (whole != parts).then(|| format!("{row}: {whole} in the whole, {parts} in the parts"))
    });
    lines.take(20).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn cases_give_the_same_rows_behind_a_kill_and_at_another_parallelism() {
    let left_out = std::env::var("THALWEG_SQL_RESTORES").map_or(LEFT_OUT, |count| count.parse().unwrap());
    let wanted = std::env::var("THALWEG_SQL_CASES").unwrap_or_default();
    let inputs = inputs();
    let all = cases(&inputs);
    assert!(all.len() > 200, "{} cases can be rewritten", all.len());
    let mut lane = Lane::new(&inputs);
    let (mut run, mut differing) = (0, Vec::new());
    for case in all
        .iter()
        .filter(|case| case.name.contains(&wanted))
        .step_by(left_out + 1)
    {
        run += 1;
        if let Err(differs) = lane.check(case).await {
            println!("---- {}\n{differs}", case.name);
            differing.push(case.name.as_str());
        }
    }
    assert!(
        differing.is_empty(),
        "{} of {run} cases differ: {differing:#?}",
        differing.len()
    );
}
