//! SQL scripts whose results real Flink made: each gives the same here.
//!
//! `runtime/sql/tests/cases/AREA/NAME.sql` is the script, `NAME.out` what Flink printed (`e2e/parity/parity record`). Compared is
//! what is left of each printed changelog when it is applied, or with `-- compare: changelog` every line. Where Flink refuses or
//! fails, so must we; the words are our own.
//!
//! The same scripts at parallelism 4 leave the same, and in batch mode what their streams leave, if batch mode has them.
//!
//! `runtime/sql/tests/pending.txt` names the cases that differ still: one that passes must leave that list.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Scripts at a time.
const AT_A_TIME: usize = 4;
/// How Flink's output says that a statement failed.
const ERROR: &str = "ERROR: ";
/// Stands for the folder of input files in what was printed.
const INPUT: &str = "${input}";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/tests").join(name)
}

fn scripts(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scripts(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            into.push(path);
        }
    }
    into.sort();
}

/// With more settings, `KEY=VALUE`.
fn run(script: &Path, settings: &[&str]) -> String {
    let input = folder("input");
    // What a script writes, and reads again.
    let written = tempfile::tempdir().unwrap();
    let variables = [
        format!("input={}", input.display()),
        format!("output={}", written.path().display()),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    command
        .args(["sql", "-D", "table.dml-sync=true", "-f"])
        .arg(script);
    for setting in settings
        .iter()
        .copied()
        .chain(variables.iter().map(String::as_str))
    {
        command.args(["-D", setting]);
    }
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed = printed.replace(&input.display().to_string(), INPUT);
    if output.status.success() {
        return printed;
    }
    format!(
        "{printed}{ERROR}{}\n",
        String::from_utf8_lossy(&output.stderr).trim()
    )
}

/// Kind and row of a printed row, with the prefix that says which table.
fn row(line: &str) -> Option<(bool, String)> {
    let begin = ["+I[", "+U[", "-U[", "-D["]
        .iter()
        .filter_map(|kind| line.find(kind))
        .min()?;
    let (prefix, row) = line.split_at(begin);
    if !(prefix.is_empty() || prefix.ends_with("> ")) || !row.ends_with(']') {
        return None;
    }
    Some((row.starts_with('+'), format!("{prefix}{}", &row[2..])))
}

/// What is left of the changelogs, and the lines that are no rows.
fn materialised(text: &str) -> (BTreeMap<String, i64>, Vec<&str>) {
    let (mut rows, mut others) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        match row(line) {
            Some((added, row)) => *rows.entry(row).or_default() += if added { 1 } else { -1 },
            None => others.push(line),
        }
    }
    rows.retain(|_, count| *count != 0);
    others.sort_unstable();
    (rows, others)
}

/// Without the runs of blanks and dashes that a column's width makes.
fn unsized_boxes(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if !(matches!(c, ' ' | '-') && shown.ends_with(c)) {
            shown.push(c);
        }
    }
    shown
}

fn difference(script: &str, expected: &str, found: &str) -> Option<String> {
    let both = || Some(format!("expected:\n{expected}\nfound:\n{found}"));
    if expected.contains(ERROR) || found.contains(ERROR) {
        return if expected.contains(ERROR) && found.contains(ERROR) {
            None
        } else {
            both()
        };
    }
    let equal = if expected.contains(INPUT) {
        // A path of another length makes its column as wide.
        unsized_boxes(expected) == unsized_boxes(found)
    } else if script.contains("-- compare: changelog") {
        expected == found
    } else {
        materialised(expected) == materialised(found)
    };
    if equal { None } else { both() }
}

/// A script with what Flink printed.
struct Case {
    name: String,
    path: PathBuf,
    script: String,
    expected: String,
}

/// Those that `THALWEG_SQL_CASES` names a part of; all without it.
fn cases() -> Vec<Case> {
    let root = folder("cases");
    let mut all = Vec::new();
    scripts(&root, &mut all);
    assert!(all.len() >= 500, "{} cases", all.len());
    let wanted = std::env::var("THALWEG_SQL_CASES").unwrap_or_default();
    let case = |path: PathBuf| Case {
        name: path
            .strip_prefix(&root)
            .unwrap()
            .with_extension("")
            .display()
            .to_string(),
        script: fs::read_to_string(&path).unwrap(),
        expected: fs::read_to_string(path.with_extension("out")).unwrap(),
        path,
    };
    let mut cases: Vec<Case> = all.into_iter().map(case).collect();
    cases.retain(|case| case.name.contains(&wanted));
    cases
}

fn pending() -> BTreeSet<String> {
    let pending = fs::read_to_string(folder("pending.txt")).unwrap();
    let lines = pending.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// What differs in which case, some at a time.
fn differing(cases: &[Case], check: impl Fn(&Case) -> Option<String> + Sync) -> BTreeMap<String, String> {
    let (next, differing) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(differs) = check(case) {
                        differing.lock().unwrap().insert(case.name.clone(), differs);
                    }
                }
            });
        }
    });
    differing.into_inner().unwrap()
}

/// Fails with what differs, the names last.
fn assert_equal(cases: &[Case], differing: &BTreeMap<String, String>) {
    let shown = differing
        .iter()
        .map(|(name, differs)| format!("---- {name}\n{differs}\n"));
    let names: Vec<&str> = differing.keys().map(String::as_str).collect();
    assert!(
        names.is_empty(),
        "{}{} of {} scripts differ:\n{}",
        shown.collect::<String>(),
        names.len(),
        cases.len(),
        names.join("\n")
    );
}

#[test]
fn scripts_give_what_flink_gives() {
    let (cases, pending) = (cases(), pending());
    let mut differing = differing(&cases, |case| {
        difference(&case.script, &case.expected, &run(&case.path, &[]))
    });
    let passes = |case: &&Case| pending.contains(&case.name) && !differing.contains_key(&case.name);
    let passing: Vec<&str> = cases
        .iter()
        .filter(passes)
        .map(|case| case.name.as_str())
        .collect();
    differing.retain(|name, _| !pending.contains(name));
    assert_equal(&cases, &differing);
    assert!(
        passing.is_empty(),
        "these pass now and must leave pending.txt: {passing:#?}"
    );
}

/// Without the number of the subtask that printed a row.
fn of_any_subtask(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let Some((prefix, row)) = line.split_once("> ") else {
            return line.to_owned();
        };
        let name = prefix.trim_end_matches(|c: char| c.is_ascii_digit());
        match name.strip_suffix(':').unwrap_or(name) {
            _ if name == prefix => line.to_owned(),
            "" => row.to_owned(),
            name => format!("{name}> {row}"),
        }
    });
    lines.map(|line| line + "\n").collect()
}

#[test]
fn scripts_leave_the_same_at_parallelism_4() {
    let (mut cases, pending) = (cases(), pending());
    // A plan names its parallelism; of a refusal there is no other one.
    let others = [ERROR, "+--", INPUT, "=="];
    cases.retain(|case| {
        !pending.contains(&case.name) && !others.iter().any(|other| case.expected.contains(other))
    });
    let differing = differing(&cases, |case| {
        let found = of_any_subtask(&run(&case.path, &["parallelism.default=4"]));
        difference("", &case.expected, &found)
    });
    assert_equal(&cases, &differing);
}

/// Why batch mode refuses a script that is a stream's: parts of messages.
const NOT_IN_BATCH: [&str; 3] = [
    "is currently only possible for INSERT-only table sources",
    "Unaligned windows like session are not supported in batch mode",
    "FOR SYSTEM_TIME AS OF",
];

#[test]
fn scripts_give_in_batch_mode_what_their_streams_leave() {
    let mut cases = cases();
    // A console shows no kinds in batch mode, and of upserts the last ones are left.
    let others = [ERROR, "+--", INPUT];
    cases.retain(|Case { expected, .. }| {
        let are_upserts = expected.contains("+U[") && !expected.contains("-U[");
        !are_upserts && !others.iter().any(|other| expected.contains(other))
    });
    let differing = differing(&cases, |case| {
        let found = run(&case.path, &["execution.runtime-mode=BATCH"]);
        if NOT_IN_BATCH.iter().any(|refusal| found.contains(refusal)) {
            return None;
        }
        let has_changes = ["-U[", "-D["].iter().any(|kind| found.contains(kind));
        let equal = !has_changes && materialised(&case.expected) == materialised(&found);
        (!equal).then(|| format!("stream:\n{}\nbatch:\n{found}", case.expected))
    });
    assert_equal(&cases, &differing);
}
